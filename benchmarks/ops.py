"""Operators side by side: ours, a compiled mmcv, and the plain step loop for the selective scan.

Run it where mmcv is compiled (``MMCV_WITH_OPS=1 pip install --no-binary onedl-mmcv
--no-build-isolation onedl-mmcv``); without one only our times are printed. Both sides go through the
same functions of ``mmcv.ops``, on the same inputs, by turns in one process; outputs are compared first.
Ratios are medians of the peer over medians of ours: above 1, ours is faster.

    python benchmarks/ops.py [--threads 2] [--repeats 5] [--only NAME] [--json FILE]
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numba
import torch
import torch.nn.functional as F
from mmcv import ops

from rsfoundation.ops import selective_scan
from rsfoundation.ops.backend import compiled_mmcv
from rsfoundation.ops.ext import StandIn

OURS = StandIn("mmcv._ext")
SLOW = 5.0  # seconds: a call that takes longer is timed once


class Case(NamedTuple):
    """One row: a call that is made on both sides, or a peer of its own for the scan."""

    name: str
    size: str
    call: Callable[[], Any]
    target: str
    peer: Callable[[], Any] | None = None
    compare: bool = True


@contextmanager
def extension(module: Any) -> Iterator[None]:
    """Let every function of ``mmcv.ops`` use ``module``."""
    users = [m for n, m in sys.modules.items() if n.startswith("mmcv.ops.") and hasattr(m, "ext_module")]
    before = [user.ext_module for user in users]
    for user in users:
        user.ext_module = module
    try:
        yield
    finally:
        for user, old in zip(users, before, strict=True):
            user.ext_module = old


def rotated(count: int, extent: float, seed: int = 0, largest: float = 60.0) -> torch.Tensor:
    """Draw boxes over an image; sizes 8 to ``largest`` pixels."""
    g = torch.Generator().manual_seed(seed)
    size = torch.rand(count, 2, generator=g) * (largest - 8) + 8
    centre = torch.rand(count, 2, generator=g) * extent
    return torch.cat([centre, size, torch.rand(count, 1, generator=g) * 3.14 - 1.57], 1)


def scores(count: int) -> torch.Tensor:
    """Draw distinct scores."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(9)).float() / count


def with_backward(
    call: Callable[[torch.Tensor], torch.Tensor], leaf: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """Return a call that gives the gradient of the sum."""
    leaf = leaf.clone().requires_grad_()
    return lambda: torch.autograd.grad(call(leaf).sum(), leaf)[0]


def box_cases() -> list[Case]:
    """Rotated geometry."""
    cases = []
    for count, extent, target in (
        (2000, 1024, ""),
        (8000, 4096, "200x"),
        (8000, 1024, "200x"),
        (32000, 4096, "< 1 s"),
    ):
        boxes, confidence = rotated(count, extent), scores(count)
        call = lambda b=boxes, s=confidence: ops.nms_rotated(b, s, 0.1)[1]  # noqa: E731
        peer = None if count < 32000 else (lambda: None)
        cases.append(
            Case("nms_rotated", f"{count} boxes over {extent} px", call, target, peer, compare=peer is None)
        )
    for extent, kind, target in ((1024, "over an image", "10x"), (40, "dense overlap", "1x")):
        a, b = rotated(2000, extent, 1), rotated(500, extent, 2)
        cases.append(
            Case("box_iou_rotated", f"2000 x 500 {kind}", lambda a=a, b=b: ops.box_iou_rotated(a, b), target)
        )
    return cases


def feature_cases() -> list[Case]:
    """Region pooling, deformable convolution; focal loss has no compiled CPU form to compare with."""
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(1, 256, 128, 128, generator=g)
    rois = torch.cat([torch.zeros(512, 1), rotated(512, 1024, 4, 200.0)], 1)
    upright = torch.cat([rois[:, :1], rois[:, 1:3] - rois[:, 3:5] / 2, rois[:, 1:3] + rois[:, 3:5] / 2], 1)
    cases = []
    for name, layer, regions in (
        ("RoIAlignRotated", ops.RoIAlignRotated(7, 1 / 8, 2, clockwise=True), rois),
        ("RoIAlign", ops.RoIAlign(7, 1 / 8, 2), upright),
    ):
        forward = lambda x, layer=layer, regions=regions: layer(x, regions)  # noqa: E731
        cases.append(Case(name, "512 regions, 256 ch, fwd", lambda f=forward: f(maps), "1x"))
        cases.append(Case(name, "512 regions, 256 ch, fwd+bwd", with_backward(forward, maps), "1x"))
    image, offset = maps[:, :64, :64, :64].contiguous(), torch.randn(1, 18, 64, 64, generator=g)
    layer = ops.DeformConv2d(64, 64, 3, padding=1)
    conv = lambda x: layer(x, offset)  # noqa: E731
    cases.append(Case("DeformConv2d", "64 ch, 64 x 64, fwd", lambda: conv(image).detach(), "1x"))
    cases.append(Case("DeformConv2d", "64 ch, 64 x 64, fwd+bwd", with_backward(conv, image), "1x"))
    return cases


def scan_loop(u, delta, a, b, c, d, z, bias):  # noqa: ANN001, ANN201
    """The recurrence step by step, as a plain implementation has it."""
    dt = F.softplus(delta + bias[:, None])
    state, outputs = u.new_zeros(u.shape[0], *a.shape), []
    for t in range(u.shape[2]):
        drive = (dt[:, :, t] * u[:, :, t])[..., None] * b[:, None, :, t]
        state = (dt[:, :, t, None] * a).exp() * state + drive
        outputs.append((state * c[:, None, :, t]).sum(-1))
    return (torch.stack(outputs, 2) + d[:, None] * u) * F.silu(z)


def scan_operands(length: int, inner: int = 512, states: int = 16) -> list[torch.Tensor]:
    """Draw the operands of one scan."""
    g = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    a = -torch.arange(1.0, states + 1).repeat(inner, 1)
    tokens = [draw(1, states, length), draw(1, states, length), draw(inner), draw(1, inner, length)]
    return [draw(1, inner, length), draw(1, inner, length), a, *tokens, torch.full((inner,), -3.0)]


def scan_cases() -> list[Case]:
    """Selective scan; the loop stands in for a peer."""
    cases = []
    for length, target in ((4096, "4x"), (65536, "linear")):
        x = scan_operands(length)
        peer = (lambda x=x: scan_loop(*x)) if length == 4096 else (lambda: None)
        call = lambda x=x: selective_scan(*x, delta_softplus=True)  # noqa: E731
        cases.append(
            Case("selective_scan", f"512 x 16, {length} tokens, fwd", call, target, peer, length == 4096)
        )
    x = scan_operands(1024)
    ours = with_backward(lambda u: selective_scan(u, *x[1:], delta_softplus=True), x[0])
    loop = with_backward(lambda u: scan_loop(u, *x[1:]), x[0])
    return [*cases, Case("selective_scan", "512 x 16, 1024 tokens, fwd+bwd", ours, "100x", loop)]


def seconds(call: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(case: Case, compiled: Any, repeats: int) -> dict[str, Any]:
    """Check that both sides agree, then time them by turns."""

    def ours() -> Any:
        with extension(OURS):
            return case.call()

    def theirs() -> Any:
        if case.peer is not None:
            return case.peer()
        with extension(compiled):
            return case.call()

    has_peer = case.compare and (case.peer is not None or compiled is not None)
    first, result = seconds(ours), ours()
    gap = _gap(result, theirs()) if has_peer else None
    mine, peers = [], []
    for _ in range(repeats):
        mine.append(seconds(ours))
        if has_peer and sum(peers) < SLOW:
            peers.append(seconds(theirs))
    row = dict(
        name=case.name, size=case.size, first=first, ours=statistics.median(mine), gap=gap, target=case.target
    )
    row["peer"] = statistics.median(peers) if peers else None
    row["ratio"] = row["peer"] / row["ours"] if peers else None
    return row


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference relative to the largest value; 1 where index sets differ."""
    if a.dtype == torch.long:
        return 0.0 if a.shape == b.shape and bool((a == b).all()) else 1.0
    return float((a - b).abs().max() / b.abs().max())


def show(row: dict[str, Any]) -> None:
    """Print one row of the table."""
    peer = f"{row['peer'] * 1e3:10.1f}" if row["peer"] else f"{'-':>10}"
    ratio = f"{row['ratio']:8.1f}x" if row["ratio"] else f"{'-':>9}"
    gap = f"{row['gap']:.0e}" if row["gap"] is not None else "-"
    ours = f"{row['ours'] * 1e3:10.1f}"
    print(f"{row['name']:16} {row['size']:34} {ours} {peer} {ratio} {row['target']:>7} {gap:>7}", flush=True)


def main() -> None:
    """Run the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compiled = compiled_mmcv()
    versions = dict(python=platform.python_version(), torch=torch.__version__, numba=numba.__version__)
    versions |= dict(mmcv=mmcv.__version__, compiled=compiled is not None, threads=options.threads)
    print(versions)
    print(
        f"{'operator':16} {'size':34} {'ours ms':>10} {'peer ms':>10} {'ratio':>9} {'target':>7} {'gap':>7}"
    )
    rows = []
    for case in [*box_cases(), *feature_cases(), *scan_cases()]:
        if options.only in case.name:
            rows.append(measure(case, compiled, options.repeats))
            show(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(dict(versions=versions, rows=rows), indent=1))


if __name__ == "__main__":
    main()
