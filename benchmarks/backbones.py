"""The package's backbones against the same networks written the plain way, side by side.

    python benchmarks/backbones.py [--only lsknet_s ...] [--train] [--repeats 7] [--json out.json]

Evaluation: one image of 512 pixels, float32. Training: forward and backward, two images of 256 pixels. Both
ways use the same weights; outputs at the timed size are compared (1e-4 of the largest value) before anything
is timed, and calls alternate in one process. Times are medians. FLOPs are FLOPs: a multiply-add is two.
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from plain_backbones import PLAIN
from torch import nn

from rsfoundation.engine.networks import measure_complexity
from rsfoundation.models.factory import NETWORKS as ALL_NETWORKS
from rsfoundation.registry import MODELS

NETWORKS = {name: dict(cfg) for name, cfg in ALL_NETWORKS.items() if cfg["type"] in PLAIN}
TOLERANCE = 1e-4
EVALUATION_SHAPE, TRAINING_SHAPE = (1, 3, 512, 512), (2, 3, 256, 256)


@dataclass(frozen=True)
class Row:
    """Median seconds of both ways, wall clock and processor time of all threads, and the rate of ours.

    ``difference`` is that of the two outputs, as a fraction of the largest value.
    """

    name: str
    shape: tuple[int, ...]
    plain_s: float
    ours_s: float
    plain_cpu_s: float
    ours_cpu_s: float
    gflops_per_s: float
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is, by the clock."""
        return self.plain_s / self.ours_s

    @property
    def cpu_ratio(self) -> float:
        """The same by processor time, which other processes on the machine disturb less."""
        return self.plain_cpu_s / self.ours_cpu_s


def randomise(model: nn.Module) -> None:
    """Give weights that keep activations near one, and norms statistics as after training."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.dim() > 1 and value.is_floating_point():
            value.normal_(0, value[0].numel() ** -0.5)
        elif value.is_floating_point():
            value.normal_(1 if name.endswith("weight") else 0, 0.1)


def compare(model: nn.Module, plain: Callable[..., list[torch.Tensor]], x: torch.Tensor) -> float:
    """Stop where the two ways give different maps of the images to be timed.

    In float32, the format that is timed. LWGANet puts values back where 2x2 maxima were: rounding that
    decides otherwise between near-equal maxima moves a value by a pixel, either way. Only where
    float32 differs are the two compared in float64.

    Returns:
        The largest difference of any map, as a fraction of its largest value.
    """
    worst = _difference(model, plain, x)
    if worst > TOLERANCE and any(name.endswith(("GA12", "GA3")) for name, _ in model.named_modules()):
        worst = _difference(copy.deepcopy(model).double(), plain, x.double())
    if worst > TOLERANCE:
        raise SystemExit(f"outputs differ by {worst:.1e} of the largest value")
    return worst


def _difference(model: nn.Module, plain: Callable[..., list[torch.Tensor]], x: torch.Tensor) -> float:
    with torch.no_grad():
        pairs = zip(model(x), plain(model, x), strict=True)
        return max(
            ((found - expected).abs().max() / expected.abs().max()).item() for found, expected in pairs
        )


def matrix_rate(side: int = 1024, repeats: int = 7) -> float:
    """Return the machine's rate of float32 matrix products in GFLOP/s: the best of what torch offers.

    BLAS and oneDNN (through a 1x1 convolution) differ widely on processors that BLAS is not tuned for.
    """
    a, b = torch.randn(side, side), torch.randn(side, side)
    column, weight = a.T.reshape(1, side, side, 1), b[:, :, None, None]
    calls: list[Callable[[], object]] = [lambda: a @ b, lambda: nn.functional.conv2d(column, weight)]
    with torch.no_grad():
        seconds = min(alternate(*calls, repeats=repeats + 1)[1:], key=lambda walls: min(walls[:2]))
    return 2 * side**3 / min(seconds[:2]) / 1e9


def alternate(first: Callable[[], None], second: Callable[[], None], repeats: int) -> list[tuple[float, ...]]:
    """Time both in turn; return (wall, wall, processor, processor) of each round."""
    rounds = []
    for _ in range(repeats):
        walls, cpus = [], []
        for call in (first, second):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        rounds.append((*walls, *cpus))
    return rounds


def backward(maps: tuple[torch.Tensor, ...] | list[torch.Tensor]) -> None:
    """Run the backward pass of the sum of all maps."""
    sum(x.sum() for x in maps).backward()


def bench(name: str, train: bool, repeats: int) -> Row:
    """Compare and time one network."""
    model = MODELS.build(NETWORKS[name])
    randomise(model)
    plain, shape = PLAIN[NETWORKS[name]["type"]], TRAINING_SHAPE if train else EVALUATION_SHAPE
    x = torch.randn(shape)
    worst = compare(model.eval(), plain, x)
    model.train(train)

    def step(forward: Callable[[], list[torch.Tensor]]) -> None:
        with torch.set_grad_enabled(train):
            maps = forward()
        if train:
            backward(maps)

    rounds = alternate(lambda: step(lambda: plain(model, x)), lambda: step(lambda: model(x)), repeats + 1)[1:]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    flops = measure_complexity(model, shape).total.flops * (3 if train else 1)
    return Row(name, shape, *medians, flops / medians[1] / 1e9, worst)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    mode = "forward and backward" if options.train else "forward"
    print(f"{mode}, float32, CPU, {options.threads} threads, torch {torch.__version__}")
    rate = matrix_rate()
    print(
        f"matrix products on this machine now: {rate:.0f} GFLOP/s; 'of it' is our GFLOP/s as a share of that"
    )
    times = f"{'network':14}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}{'cpu ratio':>11}"
    print(f"{times}{'GFLOP/s':>10}{'of it':>8}{'difference':>12}")
    rows = []
    for name in options.only:
        row = bench(name, options.train, options.repeats)
        rows.append(row)
        times = f"{row.plain_s * 1e3:10.1f}{row.ours_s * 1e3:10.1f}{row.ratio:8.2f}{row.cpu_ratio:11.2f}"
        share = f"{row.gflops_per_s:10.1f}{row.gflops_per_s / rate:8.0%}{row.difference:12.1e}"
        print(f"{name:14}{times}{share}", flush=True)
    if options.json:
        conditions = dict(
            mode=mode, threads=options.threads, torch=torch.__version__, matrix_gflops_per_s=rate
        )
        options.json.write_text(json.dumps(dict(conditions, rows=[asdict(row) for row in rows]), indent=2))


if __name__ == "__main__":
    main()
