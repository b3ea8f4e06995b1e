"""Semantic segmentation next to mmseg and to the published way, on the same inputs.

    python benchmarks/segmentation.py metric  [--side 6000] [--classes 7]
    python benchmarks/segmentation.py slide   [--side 6000] [--classes 6]
    python benchmarks/segmentation.py forward [--side 512]
    options of all: [--threads 2] [--repeats 5] [--json FILE]

``metric``: the confusion matrix of one image, mmseg's ``IoUMetric.intersect_and_union`` and our
``count_pixels``. Both get the same int64 maps, as tested samples have them; areas are compared first.

``slide``: LSKNet-T with UNetFormer on one image, windows of 512 px every 384 px, by mmseg's
``EncoderDecoder`` and by ours without logits; class maps are compared. Each runs once, in a process of its
own for its memory.

``forward``: the same network, ours and written plainly (planes in memory, eager, nothing merged), one image;
logits are compared first (1e-3 of the largest value), calls alternate.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmseg
import numpy as np
import torch
from backbones import alternate, randomise
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.evaluation import IoUMetric
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from plain_backbones import PLAIN
from plain_unetformer import plain_unetformer

from rsfoundation import __version__
from rsfoundation.evaluation.confusion_matrix import count_pixels
from rsfoundation.models.segmentors.encoder_decoder import EncoderDecoder

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


def metric(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Count the pixels of label maps both ways."""
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
    return rows


def segmentor(classes: int, ours: bool) -> Any:
    """Return LSKNet-T with UNetFormer, of either segmentor, with equal weights."""
    init_default_scope("mmseg")
    config = ConfigDict(
        backbone=dict(type="rsfoundation.LSKNet", arch="t"),
        decode_head=dict(
            type="rsfoundation.UNetFormerHead", in_channels=[32, 64, 160, 256], num_classes=classes
        ),
        test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(384, 384), keep_logits=False),
    )
    model = (EncoderDecoder if ours else MMSegEncoderDecoder)(**config)
    randomise(model)
    return model.eval()


def slide_once(side: int, classes: int, ours: bool, threads: int, results: Any) -> None:
    """Predict an image, and put seconds, megabytes above a single window, and the class map into a queue."""
    torch.set_num_threads(threads)
    model, generator = segmentor(classes, ours), torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, side, side, generator=generator)
    with torch.no_grad():
        small = [SegDataSample(metainfo=dict(ori_shape=(512, 512), img_shape=(512, 512)))]
        model.predict(image[..., :512, :512], small)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sample = SegDataSample(metainfo=dict(ori_shape=(side, side), img_shape=(side, side)))
        started = time.perf_counter()
        (found,) = model.predict(image, [sample])
        seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    results.put((seconds, grown, found.pred_sem_seg.data[0].numpy().astype(np.uint8)))


def slide(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Predict one large image by windows both ways."""
    found = {}
    for name, ours in (("ours", True), ("mmseg", False)):
        results: Any = multiprocessing.get_context("spawn").Queue()
        arguments = (options.side, options.classes, ours, options.threads, results)
        process = multiprocessing.get_context("spawn").Process(target=slide_once, args=arguments)
        process.start()
        found[name] = results.get()
        process.join()
        print(f"{name:6}{found[name][0]:9.1f} s, {found[name][1]:8.0f} MB above a single window", flush=True)
    differ = float((found["ours"][2] != found["mmseg"][2]).mean())
    if differ > 1e-5:
        raise SystemExit(f"class maps differ in {differ:.2%} of the pixels")
    row = {f"{name}_{unit}": found[name][i] for name in found for i, unit in enumerate(("s", "mb"))}
    row |= dict(ratio=row["mmseg_s"] / row["ours_s"], differing_pixels=differ)
    print(f"ratio {row['ratio']:.1f} (goal 2), differing pixels {differ:.1e}")
    print(f"class map {options.side**2 / 2**20:.0f} MB, goal: at most 200 MB more")
    return [row]


def plain_forward(model: Any, image: torch.Tensor) -> torch.Tensor:
    """LSKNet-T with UNetFormer the plain way, logits at the size of the image."""
    logits = plain_unetformer(model.decode_head, PLAIN["LSKNet"](model.backbone, image))
    return torch.nn.functional.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)


def forward(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the network on one image both ways."""
    model, image = segmentor(options.classes, True), torch.randn(1, 3, options.side, options.side)
    metas = [dict(ori_shape=image.shape[2:], img_shape=image.shape[2:])]
    with torch.no_grad():
        expected = plain_forward(model, image)
        difference = (
            (model.encode_decode(image, metas) - expected).abs().max() / expected.abs().max()
        ).item()
        if difference > 1e-3:
            raise SystemExit(f"logits differ by {difference:.1e} of the largest value")
        rounds = alternate(
            lambda: plain_forward(model, image),
            lambda: model.encode_decode(image, metas),
            options.repeats + 1,
        )[1:]
    plain_s, ours_s, plain_cpu, ours_cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
    row = dict(plain_s=plain_s, ours_s=ours_s, ratio=plain_s / ours_s, cpu_ratio=plain_cpu / ours_cpu)
    print(
        f"plain {plain_s * 1e3:.0f} ms, ours {ours_s * 1e3:.0f} ms, ratio {row['ratio']:.2f} (goal 1.4), "
        f"by processor time {row['cpu_ratio']:.2f}, difference {difference:.1e}"
    )
    return [dict(row, difference=difference)]


SUBJECTS = {"metric": (metric, 6000, 7), "slide": (slide, 6000, 6), "forward": (forward, 512, 6)}


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", choices=SUBJECTS, nargs="?", default="metric")
    parser.add_argument("--side", type=int)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run, side, classes = SUBJECTS[options.subject]
    options.side, options.classes = options.side or side, options.classes or classes
    torch.set_num_threads(options.threads)
    conditions = dict(
        threads=options.threads,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        mmseg=mmseg.__version__,
        rsfoundation=__version__,
    )
    print(", ".join(f"{name} {value}" for name, value in conditions.items()) + f", side {options.side}")
    rows = run(options)
    if options.json:
        content = dict(conditions, side=options.side, classes=options.classes, rows=rows)
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
