"""``rsfoundation.ops`` loads an operator when it is used."""

import ast
import inspect
import subprocess
import sys

import pytest

from rsfoundation import ops


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_package_alone_loads_neither_torch_nor_numba():
    code = "import sys, rsfoundation.ops; print(*(name in sys.modules for name in ('torch', 'numba')))"
    assert run(code) == ["False", "False"]


def test_operators_that_models_import_do_not_load_numba():
    names = "nms, nms_rotated, box_iou_rotated, depthwise_conv2d, selective_scan, window_attention"
    code = f"import sys; from rsfoundation.ops import {names}; print('numba' in sys.modules)"
    assert run(code) == ["False"]


def test_every_name_is_declared_for_type_checkers_and_loads():
    (block,) = (
        node for node in ast.walk(ast.parse(inspect.getsource(ops))) if isinstance(node, ast.If)
        and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )  # fmt: skip
    declared = {alias.name: entry.module for entry in block.body for alias in entry.names}
    assert sorted(declared) == sorted(ops.__all__) == sorted(ops._MODULE_OF)
    for name, module in declared.items():
        assert getattr(ops, name).__module__ == module
    assert set(ops.__all__) <= set(dir(ops))


def test_a_name_is_the_operator_whatever_was_imported_before():
    code = "\n".join(
        [
            "import rsfoundation.ops.suppression, rsfoundation.ops.mamba_scan",
            "from rsfoundation import ops",
            "print(*(callable(getattr(ops, name)) for name in ops.__all__))",
        ]
    )
    assert set(run(code)) == {"True"}


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'nms3d'"):
        ops.nms3d  # noqa: B018
