"""Operators on a GPU, without a compiled mmcv, and on the CPU; outputs are compared first.

    python benchmarks/ops_cuda.py [--repeats 20] [--json FILE]

Times are medians with the GPU synchronised after each call. "kernels" is how long the GPU itself computes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmcv import ops
from ops import MOST_GAP, gap_of, rotated, scan_operands, scores, with_backward
from torch import Tensor

from rsfoundation.ops import selective_scan

Call = Callable[[str], Callable[[], Tensor]]  # device -> the call on it


def cases() -> dict[str, Call]:
    """Name the calls; inputs are made on the CPU and moved."""
    found: dict[str, Call] = {}
    for count, extent in ((2000, 1024), (8000, 1024), (32000, 4096)):
        found[f"nms_rotated, {count} boxes over {extent} px"] = partial(_suppress, count, extent)
    found["box_iou_rotated, 2000 x 500 over 1024 px"] = _overlap
    for what in ("fwd", "fwd+bwd"):
        found[f"RoIAlignRotated, 512 regions, 256 ch, {what}"] = partial(_pool, what)
        found[f"DeformConv2d, 256 ch, 64 x 64, {what}"] = partial(_deform, what)
        found[f"selective_scan, 512 x 16, 4096 tokens, {what}"] = partial(_scan, what)
    return found


def _suppress(count: int, extent: float, device: str) -> Callable[[], Tensor]:
    boxes, confidence = rotated(count, extent).to(device), scores(count).to(device)
    return lambda: ops.nms_rotated(boxes, confidence, 0.1)[1]


def _overlap(device: str) -> Callable[[], Tensor]:
    a, b = rotated(2000, 1024, 1).to(device), rotated(500, 1024, 2).to(device)
    return lambda: ops.box_iou_rotated(a, b)


def _pool(what: str, device: str) -> Callable[[], Tensor]:
    maps = torch.randn(1, 256, 128, 128, generator=torch.Generator().manual_seed(3)).to(device)
    regions = torch.cat([torch.zeros(512, 1), rotated(512, 1024, 4, 200.0)], 1).to(device)
    layer = ops.RoIAlignRotated(7, 1 / 8, 2, clockwise=True)
    return _both(what, lambda x: layer(x, regions), maps)


def _deform(what: str, device: str) -> Callable[[], Tensor]:
    g = torch.Generator().manual_seed(3)
    image = torch.randn(1, 256, 64, 64, generator=g).to(device)
    offset = torch.randn(1, 18, 64, 64, generator=g).to(device)
    weight = (torch.randn(256, 256, 3, 3, generator=g) / 48).to(device)
    return _both(what, lambda x: ops.deform_conv2d(x, offset, weight, 1, 1), image)


def _scan(what: str, device: str) -> Callable[[], Tensor]:
    u, *others = (tensor.to(device) for tensor in scan_operands(4096))
    return _both(what, lambda x: selective_scan(x, *others, delta_softplus=True), u)


def _both(what: str, call: Callable[[Tensor], Tensor], leaf: Tensor) -> Callable[[], Tensor]:
    return with_backward(call, leaf) if what == "fwd+bwd" else lambda: call(leaf)


def seconds(call: Callable[[], Tensor], repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def busy(call: Callable[[], Tensor]) -> float:
    """Return how long the GPU computes for one call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6


def main() -> None:
    """Compare, time and print a row per call."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    versions = dict(gpu=torch.cuda.get_device_name(), torch=torch.__version__)
    versions |= dict(cpu_threads=torch.get_num_threads())
    print(versions)
    print(f"{'operator':48} {'GPU ms':>9} {'kernels':>9} {'CPU ms':>9} {'gap':>8}")
    rows: list[dict[str, Any]] = []
    for name, make in cases().items():
        on_gpu, on_cpu = make("cuda"), make("cpu")
        gap = gap_of(on_gpu().cpu(), on_cpu())
        if gap > MOST_GAP:
            raise SystemExit(f"{name}: results differ by {gap:.1e}")
        gpu_s, kernel_s, cpu_s = seconds(on_gpu, args.repeats), busy(on_gpu), seconds(on_cpu, 3)
        rows.append(dict(name=name, gpu_s=gpu_s, kernel_s=kernel_s, cpu_s=cpu_s, gap=gap))
        times = " ".join(f"{value * 1e3:9.2f}" for value in (gpu_s, kernel_s, cpu_s))
        print(f"{name:48} {times} {gap:8.0e}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(dict(versions=versions, rows=rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
