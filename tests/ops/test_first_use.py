"""What a first use costs is how much numba has to analyse: here that is counted, not timed."""

import gc
import importlib

import pytest
import torch
from numba import njit
from numba.core import event, ir

from rsfoundation.ops import (
    RoiGrid,
    box_iou_rotated,
    depthwise_conv2d,
    nms_rotated,
    roi_align_rotated,
    selective_scan,
    soft_nms,
    window_attention,
)
from rsfoundation.ops.deform_conv import DeformedConv, Geometry, fill_input_grads, fill_output
from rsfoundation.ops.focal_loss import sigmoid_focal
from rsfoundation.ops.kernels import scan
from rsfoundation.ops.polygons import box_iou_quadri, nms_quadri

STATEMENTS = 320  # numba takes about a millisecond for each
BOXES = torch.rand(6, 5) * 20 + 1
QUADS, SCORES = torch.rand(6, 8) * 20, torch.rand(6)


def pool():
    maps = torch.rand(1, 4, 8, 8, requires_grad=True)
    regions = torch.cat([torch.zeros(6, 1), BOXES], 1)
    roi_align_rotated(maps, regions, (2, 2), RoiGrid(1.0, 2)).sum().backward()


def scan_tokens():
    tokens, states = torch.rand(1, 4, 9, requires_grad=True), torch.rand(1, 8, 9)
    selective_scan(tokens, torch.rand(1, 4, 9), -torch.rand(4, 8), states, states).sum().backward()


def deform():
    image, offset = torch.rand(1, 4, 6, 6), torch.rand(1, 18, 6, 6)
    conv = DeformedConv(image, torch.rand(4, 4, 3, 3), offset, None, Geometry(1, 1, 1, 1, 1, 1, 1, 1))
    out = torch.empty(1, 4, 6, 6)
    fill_output(conv, None, out)
    fill_input_grads(conv, out, torch.empty_like(image), torch.empty_like(offset), None)


def convolve():
    maps = torch.rand(1, 16, 5, 5).contiguous(memory_format=torch.channels_last)
    depthwise_conv2d(maps, torch.rand(16, 1, 5, 5, requires_grad=True)).sum().backward()


USES = {
    "kernels.rotated_boxes.iou_rows": lambda: box_iou_rotated(BOXES, BOXES),
    "kernels.rotated_boxes.iou_aligned": lambda: box_iou_rotated(BOXES, BOXES, aligned=True),
    "kernels.rotated_boxes.suppress": lambda: nms_rotated(BOXES, SCORES, 0.3),
    "kernels.polygon.hulls": lambda: box_iou_quadri(QUADS, QUADS),
    "kernels.polygon.common_rows": lambda: box_iou_quadri(QUADS, QUADS),
    "kernels.polygon.suppress": lambda: nms_quadri(QUADS, SCORES, 0.3),
    "kernels.rotated_boxes.soft_suppress": lambda: soft_nms(BOXES[:, :4], SCORES, 0.3, 0.5, 0.05, 1),
    "focal_loss.sigmoid_and_rate": lambda: sigmoid_focal(torch.rand(5, 3), torch.arange(5), 2.0, 0.25),
    "roi_align_rotated.pool": pool,
    "roi_align_rotated.spread": pool,
    "deform_conv.sample": deform,
    "deform_conv.slopes": deform,
    "deform_conv.spread": deform,
    "scan.forward": scan_tokens,
    "scan.backward": scan_tokens,
    "kernels.depthwise.weight_gradient": convolve,
    "kernels.window_attention.attend": lambda: window_attention(torch.rand(1, 7, 7, 24), 1, torch.rand(24)),
}


def kernel_of(name):
    if name.startswith("scan"):
        return {"scan.forward": scan.forward_kernel, "scan.backward": scan.backward_kernel}[name](8)
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(f"rsfoundation.ops.{module}"), function)


@pytest.mark.parametrize("name", USES)
def test_kernels_give_numba_little_to_analyse(name):
    USES[name]()
    kernel = kernel_of(name)
    options = {key: value for key, value in kernel.targetoptions.items() if key != "nopython"}
    anew = njit(**options)(kernel.py_func)  # what comes from the cache does not tell
    with event.install_recorder("numba:compile") as compilations:
        anew.compile(kernel.signatures[0])
    assert len(compilations.buffer) == 2  # start and end of one compilation, none of a helper
    (result,) = anew.overloads.values()
    blocks = result.type_annotation.blocks.values()
    count = sum(not isinstance(statement, ir.Del) for block in blocks for statement in block.body)
    assert count <= STATEMENTS, f"{name} has {count} statements"


def test_the_collector_rests_while_a_kernel_compiles_and_no_longer():
    seen = []

    class Listener(event.Listener):
        def on_start(self, event):
            seen.append(gc.isenabled())

        def on_end(self, event):
            seen.append(gc.isenabled())

    listener = Listener()
    event.register("numba:compile", listener)
    try:
        for before in (True, False):
            gc.enable() if before else gc.disable()
            assert njit(lambda x: x + 1)(before + 1) == before + 2
            assert gc.isenabled() is before
    finally:
        gc.enable()
        event.unregister("numba:compile", listener)
    assert seen
    assert not any(seen)
