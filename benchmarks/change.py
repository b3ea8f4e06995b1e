"""Change detection against the same networks written the plain way, side by side.

    python benchmarks/change.py [--only changer ...] [--size 1024] [--repeats 5] [--json out.json]

One pair, float32, evaluation. Plain is what the publications do: each date goes through the backbone by
itself, as planes in memory, levels are enlarged and joined before they are fused, nothing is merged. Both use
the same weights; logits of the timed pair are compared (1e-3 of the largest value) before anything is timed,
and calls alternate in one process. Numbers are medians. LWGANet puts values back where 2x2 maxima were, and
rounding decides between near-equal ones: where float32 differs, A2Net is compared in float64.
"""

import argparse
import copy
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from backbones import alternate, randomise
from plain_backbones import PLAIN, gated_conv_stage
from torch import Tensor, nn
from torch.nn import functional as F

from rsfoundation.registry import MODELS

TOLERANCE = 1e-3
_CE = dict(type="mmseg.CrossEntropyLoss", use_sigmoid=False, avg_non_ignore=True)
_HEAD = dict(num_classes=2, out_channels=2, loss_decode=_CE)
_LEVELS = dict(in_channels=[32, 64, 160, 256], in_index=[0, 1, 2, 3])
_EXCHANGE = [None, dict(type="SpatialExchange"), dict(type="ChannelExchange"), dict(type="ChannelExchange")]
NETWORKS = {
    "changer": dict(
        type="DIEncoderDecoder",
        backbone=dict(
            type="InteractionBackbone", backbone=dict(type="LSKNet", arch="t"), interaction_cfg=_EXCHANGE
        ),
        decode_head=dict(type="Changer", channels=128, norm_cfg=dict(type="BN"), **_LEVELS, **_HEAD),
    ),
    "bit": dict(
        type="SiamEncoderDecoder",
        backbone=dict(type="LSKNet", arch="t"),
        neck=dict(type="FeatureFusionNeck", policy="concat", out_indices=[1]),
        decode_head=dict(type="BITHead", in_channels=64, **_HEAD),
    ),
    "a2net": dict(type="A2Net", backbone=dict(type="LWGANet", arch="l0")),
}


def _swap(x1: Tensor, x2: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Swap every second slice, by boolean indices as published."""
    index = torch.arange(x1.shape[axis]) % 2 == 0
    y1, y2 = x1.clone(), x2.clone()
    where = (slice(None),) * axis + (index,)
    y1[where], y2[where] = x2[where], x1[where]
    return y1, y2


def plain_changer(model: nn.Module, pair: Tensor) -> Tensor:
    """ChangerEx on LSKNet."""
    x1, x2 = pair.chunk(2, dim=1)
    levels: list[tuple[Tensor, Tensor]] = []
    for stage, axis in enumerate((None, 3, 1, 1), start=1):
        x1, x2 = (gated_conv_stage(model.backbone, stage, x) for x in (x1, x2))
        if axis is not None:
            x1, x2 = _swap(x1, x2, axis)
        levels.append((x1, x2))
    head = model.decode_head
    size = levels[0][0].shape[2:]
    dates = []
    for date in (0, 1):
        projected = [
            F.interpolate(conv(level[date]), size=size, mode="bilinear", align_corners=False)
            for conv, level in zip(head.convs, levels, strict=True)
        ]
        dates.append(head.fusion_conv(torch.cat(projected, dim=1)))
    return head.cls_seg(head.discriminator(head.neck_layer(*dates, "concat")))


def plain_bit(model: nn.Module, pair: Tensor) -> Tensor:
    """BIT on LSKNet."""
    first, second = (PLAIN["LSKNet"](model.backbone, x) for x in pair.chunk(2, dim=1))
    return model.decode_head([torch.cat([first[1], second[1]], dim=1)])


def plain_a2net(model: nn.Module, pair: Tensor) -> Tensor:
    """A2Net on LWGANet."""
    first, second = (PLAIN["LWGANet"](model.backbone, x) for x in pair.chunk(2, dim=1))
    return model.decoder(model.tfm(model.swa(first), model.swa(second)))[1][0]


PLAIN_NETWORKS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "changer": plain_changer,
    "bit": plain_bit,
    "a2net": plain_a2net,
}


@dataclass(frozen=True)
class Row:
    """Median seconds of both, wall clock and processor time of all threads.

    ``difference`` is that of the logits, as a fraction of the largest value.
    """

    name: str
    size: int
    plain_s: float
    ours_s: float
    plain_cpu_s: float
    ours_cpu_s: float
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is, by the clock."""
        return self.plain_s / self.ours_s

    @property
    def cpu_ratio(self) -> float:
        """The same by processor time, which other processes on the machine disturb less."""
        return self.plain_cpu_s / self.ours_cpu_s


def bench(name: str, size: int, repeats: int) -> Row:
    """Compare and time one network."""
    model = MODELS.build(NETWORKS[name])
    randomise(model)
    model.eval()
    plain = PLAIN_NETWORKS[name]
    pair = torch.randn(1, 6, size, size)

    def ours(model: nn.Module = model, pair: Tensor = pair) -> Tensor:
        logits = model(pair, mode="tensor")
        return logits if isinstance(logits, Tensor) else logits[0]

    def difference_of(model: nn.Module, pair: Tensor) -> float:
        expected = plain(model, pair)
        return ((ours(model, pair) - expected).abs().max() / expected.abs().max()).item()

    with torch.no_grad():
        difference = difference_of(model, pair)
        if difference > TOLERANCE and name == "a2net":
            difference = difference_of(copy.deepcopy(model).double(), pair.double())
        if difference > TOLERANCE:
            raise SystemExit(f"{name}: logits differ by {difference:.1e} of the largest value")
        rounds = alternate(lambda: plain(model, pair), ours, repeats + 1)[1:]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return Row(name, size, *medians, difference)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=1024, help="side of the pair in pixels, a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"forward, float32, CPU, batch 1, pair of {options.size} pixels, {options.threads} threads, "
        f"torch {torch.__version__}"
    )
    print(f"{'network':10}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}{'cpu ratio':>11}{'difference':>12}")
    rows = []
    for name in options.only:
        row = bench(name, options.size, options.repeats)
        rows.append(row)
        times = f"{row.plain_s * 1e3:10.0f}{row.ours_s * 1e3:10.0f}{row.ratio:8.2f}{row.cpu_ratio:11.2f}"
        print(f"{name:10}{times}{row.difference:12.1e}", flush=True)
    if options.json:
        conditions = dict(threads=options.threads, torch=torch.__version__, batch=1, dtype="float32")
        options.json.write_text(json.dumps(dict(conditions, rows=[asdict(row) for row in rows]), indent=2))


if __name__ == "__main__":
    main()
