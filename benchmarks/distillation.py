"""Images per second of CPU time with cached features and the live teacher; bytes and accuracy of int8 caches.

    python benchmarks/distillation.py [--side 512] [--images 2] [--repeats 2] [--steps 200] [--json FILE]

Speed: the targets of a batch from SAM ViT-B (random weights: the time is the same) and from an int8 cache,
checksums included; then whole training steps of LWGANet-L0 with either. The map from the cache is compared
with the live one first. Bytes: of the files of an int8 and an fp32 cache of ViT-B's maps. Accuracy: a student
of one block is trained on the same scenes from an fp32 and from an int8 cache of a tiny teacher, with equal
weights and order; both are measured on held-out scenes against the live teacher.
"""

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement

from rsfoundation.evaluation.distillation_metric import DistillationMetric
from rsfoundation.io.feature_cache import FeatureWriter
from rsfoundation.models.distill.feature_distiller import FeatureDistiller
from rsfoundation.models.distill.teachers import FrozenTeacher, encode, preprocessing_of
from rsfoundation.prepare.toy.make import make_toy_scenes

BASE = dict(type="rsfoundation.SAMViT", arch="base")
WIDE = dict(type="rsfoundation.LWGANet", arch="l0")
CROP = 128
TINY = dict(
    type="rsfoundation.SAMViT",
    hidden_size=64,
    output_channels=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    global_attn_indexes=(1, 3),
    mlp_dim=128,
    image_size=CROP,
    window_size=4,
)
STUDENT = {**TINY, "hidden_size": 48, "num_hidden_layers": 1, "global_attn_indexes": (0,), "mlp_dim": 96}


def write_cache(
    root: Path, teacher: dict[str, Any], batches: list[torch.Tensor], form: str
) -> dict[str, Any]:
    """Write the maps of all images of all batches; return the config of the teacher that reads them."""
    frozen = FrozenTeacher(teacher)
    network = frozen.load()
    about = dict(
        teacher=frozen.hash,
        preprocessing=preprocessing_of(torch.nn.Module()),
        channels=network.out_channels[-1],
        format=form,
    )
    writer = FeatureWriter(root, about)
    for first, images in enumerate(batches):
        with torch.inference_mode():
            maps = encode(network, images)[0].numpy()
        writer.add({f"{first}-{index}": one for index, one in enumerate(maps)})
    return dict(type="rsfoundation.CachedFeatures", root=str(root))


def samples_of(batch: int, count: int) -> list[BaseDataElement]:
    """Return the samples that name the cached maps of a batch."""
    return [BaseDataElement(metainfo=dict(image_key=f"{batch}-{index}")) for index in range(count)]


def bytes_of(folder: Path) -> int:
    """Return the size of all files of a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """Return the median CPU time of a call after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return statistics.median(times[1:])


def train_step(model: FeatureDistiller, optimizer: Any, images: torch.Tensor, samples: Any) -> None:
    """Do one step."""
    losses = model(images, samples, mode="loss")
    optimizer.zero_grad()
    sum(value for name, value in losses.items() if name.startswith("loss")).backward()
    optimizer.step()


def speed(side: int, count: int, repeats: int, folder: Path) -> dict[str, float]:
    """Measure both kinds of teacher, and the bytes of two formats."""
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    found: dict[str, float] = {}
    teachers = dict(live=BASE, cached=write_cache(folder / "int8", BASE, [images], "int8"))
    write_cache(folder / "fp32", BASE, [images], "fp32")
    found["bytes_ratio"] = bytes_of(folder / "int8") / bytes_of(folder / "fp32")
    samples, maps = samples_of(0, count), {}
    for name, teacher in teachers.items():
        torch.manual_seed(0)
        model = FeatureDistiller(WIDE, teacher, adapter="linear")
        maps[name] = model.teach(images, samples)[0]
        model.measure_targets([(images, samples)], count)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
        seconds = seconds_of(lambda model=model: model.teach(images, samples), repeats)
        found[f"{name}_targets"] = count / seconds
        step = (model, optimizer, images, samples)
        found[f"{name}_steps"] = count / seconds_of(lambda step=step: train_step(*step), repeats)
    found["largest_difference"] = float(
        (maps["live"] - maps["cached"]).abs().max() / maps["live"].abs().max()
    )
    return found


def scenes(folder: Path, count: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return batches of crops of toy scenes for training, and held-out ones, normalised."""
    make_toy_scenes(folder, size=256, counts=dict(train=count, val=40, test=1), large=0, tasks=("detection",))
    parts = []
    for part in ("train", "val"):
        files = sorted((folder / "detection" / part / "images").iterdir())
        crops = [cv2.imread(str(file))[64 : 64 + CROP, 64 : 64 + CROP] for file in files]
        parts.append((torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() - 115) / 57)
    return list(parts[0].split(16)), parts[1]


def accuracy(steps: int, folder: Path) -> dict[str, float]:
    """Train one student from an fp32 and an int8 cache; return the relative errors on held-out scenes."""
    batches, held_out = scenes(folder / "scenes", 160)
    found = {}
    for form in ("fp32", "int8"):
        teacher = write_cache(folder / f"tiny_{form}", TINY, batches, form)
        torch.manual_seed(0)
        model = FeatureDistiller(STUDENT, teacher, losses=[dict(type="MapAlignment", relation=0.5)])
        model.init_weights()
        named = [(images, samples_of(index, len(images))) for index, images in enumerate(batches)]
        model.measure_targets(named, 160)
        optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
        order = np.random.default_rng(0).integers(len(batches), size=steps)
        for index in order:
            train_step(model, optimizer, *named[index])
            schedule.step()
        live = FeatureDistiller(STUDENT, TINY)
        assert torch.equal(live.teacher.pos_embed, FrozenTeacher(TINY).load().pos_embed)
        live.load_state_dict(model.state_dict())
        metric = DistillationMetric()
        for sample in live.eval().predict(held_out):
            metric.process(None, [dict(teacher_map=sample.teacher_map, student_map=sample.student_map)])
        found[form] = metric.compute_metrics(metric.results)["relative_error"]
    return found


def main() -> None:
    """Measure speed, bytes and accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("side", 512), ("images", 2), ("repeats", 2), ("steps", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    init_default_scope("mmengine")
    MMLogger.get_instance("benchmark").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        rates = speed(options.side, options.images, options.repeats, Path(folder))
        report(rates, options)
        errors = accuracy(options.steps, Path(folder))
    change = errors["int8"] / errors["fp32"] - 1
    print(
        f"relative error after {options.steps} steps from fp32 {errors['fp32']:.4f}, "
        f"from int8 {errors['int8']:.4f}: change {change:+.2%}"
    )
    if options.json:
        sizes = {name: getattr(options, name) for name in ("side", "images", "repeats", "steps", "threads")}
        content = dict(sizes, rates=rates, errors=errors, change=change)
        options.json.write_text(json.dumps(content, indent=2) + "\n")


def report(rates: dict[str, float], options: argparse.Namespace) -> None:
    """Print the rates."""
    versions = dict(torch=torch.__version__, python=platform.python_version())
    print(f"{options.images} images of {options.side} px, {torch.get_num_threads()} threads; {versions}")
    print(
        f"cached map (int8) against live: largest difference {rates['largest_difference']:.2%} of the range"
    )
    for kind, title in (("targets", "targets of a batch"), ("steps", "training steps, LWGANet-L0")):
        live, cached = rates[f"live_{kind}"], rates[f"cached_{kind}"]
        print(f"{title:28} live {live:8.2f} / s, cached {cached:8.2f} / s, ratio {cached / live:.1f}")
    print(f"bytes of int8 / fp32: {rates['bytes_ratio']:.3f}", flush=True)


if __name__ == "__main__":
    main()
