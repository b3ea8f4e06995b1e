"""Confusion matrices of large label maps next to mmseg's ``IoUMetric``.

    python benchmarks/segmentation.py [--side 6000] [--classes 7] [--threads 2] [--repeats 5] [--json FILE]

Both sides get the same int64 maps, as tested samples have them; areas are compared before anything is timed.
Timed is the accumulation of one image: mmseg's ``IoUMetric.intersect_and_union`` and our ``count_pixels``.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmseg
import numpy as np
import torch
from mmseg.evaluation import IoUMetric

from rsfoundation import __version__
from rsfoundation.evaluation.confusion_matrix import count_pixels

GOAL = 10.0  # times faster


def clock(call: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of a call after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def draw_maps(side: int, classes: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction: ``scene`` has regions of 100 px, nine of ten pixels right; or noise."""
    rng = np.random.default_rng(0)
    if kind == "noise":
        truth, prediction = rng.integers(0, classes, (2, side, side))
    else:
        regions = rng.integers(0, classes, (-(-side // 100),) * 2)
        truth = np.kron(regions, np.ones((100, 100), np.int64))[:side, :side]
        prediction = np.where(rng.random(truth.shape) < 0.9, truth, rng.integers(0, classes, truth.shape))
    truth = np.ascontiguousarray(truth)
    truth[: side // 20] = 255
    return truth, prediction


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    conditions = dict(
        threads=options.threads,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        mmseg=mmseg.__version__,
        rsfoundation=__version__,
    )
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    print(f"{'maps':8}{'mmseg s':>10}{'ours s':>10}{'ratio':>8}{'goal':>7}  met")
    rows = []
    for kind in ("scene", "noise"):
        truth, prediction = draw_maps(options.side, options.classes, kind)
        label, found = torch.from_numpy(truth), torch.from_numpy(prediction)

        def theirs(label: torch.Tensor = label, found: torch.Tensor = found) -> Any:
            return IoUMetric.intersect_and_union(found, label, options.classes, 255)

        def ours(truth: np.ndarray = truth, prediction: np.ndarray = prediction) -> Any:
            return count_pixels(truth, prediction, options.classes)

        matrix = ours()[:, : options.classes]
        areas = np.diag(matrix), None, matrix.sum(axis=0), matrix.sum(axis=1)
        for mine, area in zip(areas, theirs(), strict=True):
            if mine is not None and not np.allclose(mine, area.numpy(), rtol=1e-6):
                raise SystemExit(f"areas differ: {kind}")
        row = dict(maps=kind, mmseg_s=clock(theirs, options.repeats), ours_s=clock(ours, options.repeats))
        row["ratio"] = row["mmseg_s"] / row["ours_s"]
        row["met"] = row["ratio"] >= GOAL
        rows.append(row)
        numbers = f"{kind:8}{row['mmseg_s']:10.3f}{row['ours_s']:10.3f}{row['ratio']:8.1f}{GOAL:6g}x"
        print(f"{numbers}  {'yes' if row['met'] else 'NO'}", flush=True)
    if options.json:
        content = dict(conditions, side=options.side, classes=options.classes, rows=rows)
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
