"""Compiled kernels are kept on disk and found there by later processes."""

import os
import subprocess
import sys

import pytest

CALLS = """
import torch
from numba.core import event
from rsfoundation import ops

torch.set_num_threads(1)
boxes, quads, scores = torch.rand(9, 5) + 1, torch.rand(9, 8), torch.rand(9)
regions = torch.cat([torch.zeros(9, 1), boxes], 1)
maps, tokens = torch.rand(1, 16, 8, 8, requires_grad=True), torch.rand(1, 4, 9, requires_grad=True)
with event.install_recorder("numba:compile") as compilations:
    ops.nms_rotated(boxes, scores, 0.5)
    ops.box_iou_rotated(boxes, boxes)
    ops.nms_quadri(quads, scores, 0.5)
    ops.roi_align_rotated(maps, regions, (2, 2), ops.RoiGrid(1.0, 2)).sum().backward()
    ops.selective_scan(tokens, tokens, -torch.rand(4, 8), *[torch.rand(1, 8, 9)] * 2).sum().backward()
    ops.depthwise_conv2d(
        maps.contiguous(memory_format=torch.channels_last), torch.rand(16, 1, 5, 5, requires_grad=True)
    ).sum().backward()
    ops.window_attention(torch.rand(1, 7, 7, 24), 1, torch.rand(24))
print(len(compilations.buffer) // 2)
"""


def start(code, folder):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    compiled, files = [], []
    for _ in range(2):
        child = start(CALLS, tmp_path)
        compiled.append(int(child.communicate()[0]))
        assert child.returncode == 0
        files.append(sorted(path.name for path in tmp_path.rglob("*.nb*")))
    assert compiled[0] >= 9
    assert compiled[1] == 0
    assert files[0] == files[1]


@pytest.mark.slow
def test_two_processes_fill_one_cache(tmp_path):
    lines = [
        "import torch",
        "from rsfoundation.ops import nms_rotated",
        "b = torch.rand(9, 5)",
        "nms_rotated(b, b[:, 0], 0.5)",
    ]
    children = [start("; ".join(lines), tmp_path) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert list(tmp_path.rglob("*.nbi"))
