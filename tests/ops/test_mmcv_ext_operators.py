import ast
import fnmatch
import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from locations import ROOT

from rsfoundation.core.errors import MissingOperatorError
from rsfoundation.ops.mmcv_ext import IMPLEMENTED, StandIn


def test_every_listed_operator_exists():
    for module, names in IMPLEMENTED.items():
        home = importlib.import_module(f"rsfoundation.ops.{module}")
        assert all(callable(getattr(home, f"_mmcv_{name}")) for name in names)


def test_missing_operator_is_named_when_called_and_not_before():
    operator = StandIn("mmcv._ext").tin_shift_forward
    with pytest.raises(MissingOperatorError, match="'tin_shift_forward'") as error:
        operator(1, other=2)
    assert "onedl-mmcv" in error.value.fix


def names_mmcv_asks_for():
    """Read the names out of the calls of ``load_ext`` in mmcv's sources."""
    folder = Path(importlib.util.find_spec("mmcv").origin).parent / "ops"
    for source in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_ext":
                yield from ast.literal_eval(node.args[1])


def test_every_name_is_implemented_or_listed_as_missing_and_says_so(monkeypatch):
    monkeypatch.setenv("RSF_OPS", "builtin")
    docs = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    section = docs.split("## Names without an implementation")[1].split("\n## ")[0]
    listed = re.findall(r"`([a-z0-9_*]+)`", section)
    ours = {name for names in IMPLEMENTED.values() for name in names}
    asked = set(names_mmcv_asks_for())
    assert len(asked) > 100
    for name in asked - ours:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in listed), name
        with pytest.raises(MissingOperatorError, match=name):
            getattr(StandIn("mmcv._ext"), name)()
    for pattern in listed:
        assert not fnmatch.filter(ours, pattern), pattern


def test_special_names_are_absent():
    assert not hasattr(StandIn("mmcv._ext"), "__path__")
    assert not hasattr(StandIn("mmcv._ext"), "__wrapped__")


def test_mmcv_runs_on_it():
    import mmcv._ext
    import mmcv.ops

    assert isinstance(mmcv._ext, StandIn)
    assert mmcv.ops.get_compiler_version().startswith("none")


def test_scores_behind_the_boxes_are_ignored_as_mmrotate_s_evaluation_needs_it():
    import torch
    from mmcv import ops

    boxes = torch.tensor([[10.0, 10, 8, 4, 0.3], [12.0, 10, 8, 4, 0.3]])
    scored = torch.cat([boxes, torch.tensor([[0.9], [0.8]])], 1)
    assert torch.equal(ops.box_iou_rotated(scored, boxes), ops.box_iou_rotated(boxes, boxes))
    quads = torch.tensor([[0.0, 0, 8, 0, 8, 4, 0, 4], [2.0, 0, 10, 0, 10, 4, 2, 4]])
    scored = torch.cat([quads, torch.tensor([[0.9], [0.8]])], 1)
    assert torch.equal(ops.box_iou_quadri(scored, quads), ops.box_iou_quadri(quads, quads))
