"""The stand-in for mmcv._ext is there however Python is entered."""

import multiprocessing
import os
import subprocess
import sys

import pytest


def test_a_program_that_never_imports_rsfoundation_has_mmcv_ops():
    code = "import mmcv.ops, sys; print(sys.modules['mmcv._ext'].__spec__.origin)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def _import_in_child(queue):
    import mmcv.ops

    queue.put(mmcv.ops.__name__)


def test_a_spawned_process_has_mmcv_ops():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_import_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=120) == "mmcv.ops"
    child.join()


@pytest.mark.parametrize(
    ("choice", "operator", "answers"),
    [
        ("mmcv", "box_iou_rotated", "compiled"),
        ("auto", "box_iou_rotated", "ours"),
        ("auto", "psamask_forward", "compiled"),
    ],
)
def test_calls_go_to_a_compiled_extension_as_asked(tmp_path, choice, operator, answers):
    """With a compiled mmcv._ext in place; `psamask_forward` is one that only it implements."""
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_ext.py").write_text(f"def {operator}(*args):\n    print('compiled')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch, rsfoundation, mmcv._ext as ext\n"
        "one = torch.tensor([[5., 5., 4., 2., 0.]])\n"
        "ious = torch.zeros(1, 1)\n"
        f"ext.{operator}(one, one, ious, 0, False)\n"
        "if ious.item() == 1: print('ours')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "RSF_OPS": choice}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [answers]
