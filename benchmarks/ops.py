"""Operators compared in one run: this package, a compiled mmcv, and plain torch for those mmcv does not have.

Run it where mmcv is compiled (``MMCV_WITH_OPS=1 pip install --no-binary onedl-mmcv
--no-build-isolation onedl-mmcv``); without one only our times are printed. Both sides go through the
same functions of ``mmcv.ops``, on the same inputs, by turns in one process; outputs are compared first.
"peer" is the other implementation; ratios are medians of the peer over medians of this package: above 1,
this package is faster. "asked" is the ratio to reach, "met" whether this run reached it. A call of the peer
that takes longer than 5 s is timed once. The whole takes about five minutes on two cores.

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

from rsfoundation.models.backbones.window_attention import WindowGrid
from rsfoundation.models.layers import multi_head
from rsfoundation.ops import depthwise_conv2d, selective_scan, window_attention
from rsfoundation.ops.mmcv_ext import StandIn, compiled_mmcv

OURS = StandIn("mmcv._ext")
SLOW = 5.0  # seconds: a call of the peer that takes longer is timed once
MOST_GAP = 1e-4  # relative to the largest value: sums in float32 come in another order


class Case(NamedTuple):
    """One row.

    Attributes:
        name: Operator.
        size: Its size, in words.
        call: Made on both sides.
        least: Ratio to reach.
        most: Seconds not to exceed, for cases without a peer.
        peer: In place of ``call`` with the compiled mmcv.
        alone: Whether there is nothing to compare with.
    """

    name: str
    size: str
    call: Callable[[], Any]
    least: float | None = None
    most: float | None = None
    peer: Callable[[], Any] | None = None
    alone: bool = False


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
    for count, extent in ((8000, 4096), (8000, 1024), (32000, 4096)):
        boxes, confidence = rotated(count, extent), scores(count)
        call = lambda b=boxes, s=confidence: ops.nms_rotated(b, s, 0.1)[1]  # noqa: E731
        rule = dict(least=200.0) if count == 8000 else dict(most=1.0, alone=True)
        cases.append(Case("nms_rotated", f"{count} boxes over {extent} px", call, **rule))
    for extent, kind, least in ((1024, "over an image", 10.0), (40, "dense overlap", 1.0)):
        a, b = rotated(2000, extent, 1), rotated(500, extent, 2)
        call = lambda a=a, b=b: ops.box_iou_rotated(a, b)  # noqa: E731
        cases.append(Case("box_iou_rotated", f"2000 x 500 {kind}", call, least))
    return cases


def feature_cases() -> list[Case]:
    """Region pooling, deformable convolution, focal loss."""
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
        cases.append(Case(name, "512 regions, 256 ch, fwd", lambda f=forward: f(maps), 1.0))
        cases.append(Case(name, "512 regions, 256 ch, fwd+bwd", with_backward(forward, maps), 1.0))
    image, offset = maps[:, :64, :64, :64].contiguous(), torch.randn(1, 18, 64, 64, generator=g)
    layer = ops.DeformConv2d(64, 64, 3, padding=1)
    conv = lambda x: layer(x, offset)  # noqa: E731
    cases.append(Case("DeformConv2d", "64 ch, 64 x 64, fwd", lambda: conv(image).detach(), 1.0))
    cases.append(Case("DeformConv2d", "64 ch, 64 x 64, fwd+bwd", with_backward(conv, image), 1.0))
    logits, target = torch.randn(20000, 15, generator=g), torch.randint(0, 16, (20000,), generator=g)
    loss = with_backward(lambda x: ops.sigmoid_focal_loss(x, target, 2.0, 0.25, None, "sum"), logits)
    plain = with_backward(lambda x: focal_formula(x, target), logits)
    return [*cases, Case("focal loss", "20000 x 15, fwd+bwd", loss, 1.0, peer=plain)]


def window_cases() -> list[Case]:
    """Attention of Swin-T's first and third stage at 512 px, windows shifted; the peer splits maps."""
    cases = []
    for side, channels, heads in ((128, 96, 3), (32, 384, 12)):
        g = torch.Generator().manual_seed(side)
        qkv = torch.randn(1, side, side, 3 * channels, generator=g)
        bias, padding = torch.randn(heads, 49, 49, generator=g), torch.zeros(3 * channels)
        call = lambda q=qkv, h=heads, p=padding, b=bias: window_attention(q, h, p, b, 3)  # noqa: E731
        grid = WindowGrid(side, side, 3)
        peer = lambda q=qkv, h=heads, b=bias, grid=grid: grid.join(  # noqa: E731
            multi_head(grid.split(q), h, b + grid.mask(q))
        )
        size = f"{side} x {side}, {channels} ch, {heads} heads"
        cases.append(Case("window_attention", size, call, 1.0, peer=peer))
    return cases


def depthwise_cases() -> list[Case]:
    """Depth-wise kernels of LSKNet-T and StripNet-T for two images of 256 px, with all gradients."""
    cases = []
    for images, channels, side, kernel in ((2, 32, 64, (5, 5)), (18, 160, 6, (7, 7)), (2, 32, 64, (1, 19))):
        g = torch.Generator().manual_seed(side)
        x = torch.randn(images, channels, side, side, generator=g).contiguous(
            memory_format=torch.channels_last
        )
        weight = torch.randn(channels, 1, *kernel, generator=g)
        leaves = [x.requires_grad_(), weight.requires_grad_()]
        padding = (kernel[0] // 2, kernel[1] // 2)
        call = lambda x=leaves: _gradients(depthwise_conv2d(*x), x)  # noqa: E731
        peer = lambda x=leaves, p=padding: _gradients(  # noqa: E731
            F.conv2d(*x, padding=p, groups=x[0].shape[1]), x
        )
        size = f"{images} x {channels} ch, {side} x {side}, {kernel[0]}x{kernel[1]}, f+b"
        cases.append(Case("depthwise_conv2d", size, call, 1.0, peer=peer))
    return cases


def focal_formula(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Write focal loss in torch, as mmdet does where its operator is missing: mmcv has none on the CPU."""
    hot = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits)
    p = logits.sigmoid()
    miss = (1 - p) * hot + p * (1 - hot)
    weight = (0.25 * hot + 0.75 * (1 - hot)) * miss.pow(2.0)
    return (F.binary_cross_entropy_with_logits(logits, hot, reduction="none") * weight).sum()


def scan_loop(u, delta, a, b, c, d, z, bias):  # noqa: ANN001, ANN201
    """The recurrence step by step, written as transformers' MambaMixer has it.

    Decays and drives of all tokens are computed first, so that the gradient of each step is as large as
    all of them: the backward pass grows with the square of the length.
    """
    dt = F.softplus(delta + bias[:, None])
    decays = (dt[..., None] * a[:, None]).exp()
    drives = (dt * u)[..., None] * b.transpose(1, 2)[:, None]
    state, outputs = u.new_zeros(u.shape[0], *a.shape), []
    for t in range(u.shape[2]):
        state = decays[:, :, t] * state + drives[:, :, t]
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
    """Selective scan; the peer is the loop."""
    cases = []
    for length, rule in ((4096, dict(least=4.0)), (65536, dict(alone=True))):
        x = scan_operands(length)
        call = lambda x=x: selective_scan(*x, delta_softplus=True)  # noqa: E731
        name = f"512 x 16, {length} tokens, fwd"
        cases.append(Case("selective_scan", name, call, peer=lambda x=x: scan_loop(*x), **rule))
    leaves = [tensor.requires_grad_() for tensor in scan_operands(1024)]  # a layer trains all of them
    ours = lambda: _gradients(selective_scan(*leaves, delta_softplus=True), leaves)  # noqa: E731
    loop = lambda: _gradients(scan_loop(*leaves), leaves)  # noqa: E731
    return [*cases, Case("selective_scan", "512 x 16, 1024 tokens, fwd+bwd", ours, 100.0, peer=loop)]


def _gradients(out: torch.Tensor, leaves: list[torch.Tensor]) -> torch.Tensor:
    """Return the gradients of the sum, each scaled to its largest value, in one vector."""
    grads = torch.autograd.grad(out.sum(), leaves)
    return torch.cat([(grad / grad.abs().max()).flatten() for grad in grads])


def scan_memory(length: int = 16384) -> dict[str, Any]:
    """Compare the peak memory of a forward and backward pass with its inputs and outputs (Linux)."""
    operands = [tensor.requires_grad_() for tensor in scan_operands(length)]
    weight = torch.randn(1, 512, length)

    def both() -> list[torch.Tensor]:
        out = selective_scan(*operands, delta_softplus=True)
        return [out.detach(), *torch.autograd.grad(out, operands, weight)]

    given = sum(tensor.nbytes for tensor in (*operands, weight))
    results = both()
    whole = given + sum(tensor.nbytes for tensor in results)
    del results
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = _status("VmRSS")
    both()
    ratio = (_status("VmHWM") - before + given) / whole
    return dict(name="selective_scan", size=f"peak memory, {length} tokens", value=ratio, most=3.0)


def _status(field: str) -> int:
    """Return a field of this process's memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def scan_growth(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare the cost per token of the longest scan with that of the one sixteen times shorter."""
    times = {row["size"]: row["ours"] for row in rows if row["name"] == "selective_scan"}
    if not {"512 x 16, 4096 tokens, fwd", "512 x 16, 65536 tokens, fwd"} <= times.keys():
        return None
    growth = times["512 x 16, 65536 tokens, fwd"] / times["512 x 16, 4096 tokens, fwd"] / 16
    return dict(name="selective_scan", size="growth, 4096 to 65536 tokens", value=growth, most=1.15)


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

    has_peer = not case.alone and (case.peer is not None or compiled is not None)
    first, result, gap = seconds(ours), ours(), None
    mine, peers = [], []
    if has_peer:
        start = time.perf_counter()
        expected = theirs()
        once = time.perf_counter() - start
        peers = [once] if once > SLOW else []
        gap = gap_of(result, expected)
        if gap > MOST_GAP:
            raise SystemExit(f"{case.name} {case.size}: results differ by {gap:.1e}")
    slow = bool(peers)
    for _ in range(repeats):
        mine.append(seconds(ours))
        if has_peer and not slow:
            peers.append(seconds(theirs))
    ours_s, peer_s = statistics.median(mine), statistics.median(peers) if peers else None
    ratio = None if peer_s is None else peer_s / ours_s
    row = dict(name=case.name, size=case.size, first=first, ours=ours_s, peer=peer_s, ratio=ratio, gap=gap)
    return row | dict(least=case.least, most=case.most, spread=max(mine) / min(mine))


def gap_of(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference relative to the largest value; 1 where index sets differ."""
    if a.dtype == torch.long:
        return 0.0 if a.shape == b.shape and bool((a == b).all()) else 1.0
    return float((a - b).abs().max() / b.abs().max())


def show(row: dict[str, Any]) -> None:
    """Print one row of the table; a row with a ``value`` is a ratio that should not exceed ``most``."""
    cells = ["-"] * 6
    if "value" in row:
        cells[2], cells[3], met = f"{row['value']:.2f}", f"<= {row['most']:g}", row["value"] <= row["most"]
    else:
        met = None
        cells[0] = f"{row['ours'] * 1e3:.1f}"
        if row["peer"]:
            cells[1], cells[2], cells[5] = (
                f"{row['peer'] * 1e3:.1f}",
                f"{row['ratio']:.1f}x",
                f"{row['gap']:.0e}",
            )
        if row["least"]:
            cells[3], met = (
                f"{row['least']:g}x",
                None if row["ratio"] is None else row["ratio"] >= row["least"],
            )
        if row["most"]:
            cells[3], met = f"< {row['most']:g} s", row["ours"] < row["most"]
    cells[4] = "-" if met is None else "yes" if met else "NO"
    print(f"{row['name']:16} {row['size']:33} " + " ".join(f"{cell:>9}" for cell in cells), flush=True)


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
    heads = ("ours ms", "peer ms", "ratio", "asked", "met", "gap")
    print(f"{'operator':16} {'size':33} " + " ".join(f"{head:>9}" for head in heads))
    rows = []
    for case in [*box_cases(), *feature_cases(), *window_cases(), *depthwise_cases(), *scan_cases()]:
        if options.only in case.name:
            rows.append(measure(case, compiled, options.repeats))
            show(rows[-1])
    if options.only in "selective_scan":
        extra = [row for row in (scan_growth(rows), scan_memory()) if row is not None]
        for row in extra:
            show(row)
        rows += extra
    if options.json:
        options.json.write_text(json.dumps(dict(versions=versions, rows=rows), indent=1))


if __name__ == "__main__":
    main()
