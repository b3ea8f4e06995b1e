"""Time of a detector's training step, data already loaded, and what it is spent on.

    python benchmarks/training_step.py [CONFIG ...] [--size 1024] [--batch 2] [--objects 60] [--amp float16]
        [--device cuda] [--repeats 10] [--profile] [--waits] [--json out.json]

Random images and boxes, random weights; forward, backward, clipping and the config's optimiser. Each image
has as many objects as asked, 12 to 120 px long. Figures are medians; memory is the most that torch held.
``--waits`` lists, in place of times, where the losses and their gradients need to know a value: there the
processor waits for all work of a GPU so far, and the GPU then waits for the processor. No GPU is needed;
copies to and from one, which wait as well, are seen on one only with a profiler.
"""

import argparse
import json
import platform
import statistics
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rsfoundation.engine.config import load_config
from rsfoundation.engine.networks import build_network

CONFIGS = [
    "lsknet_s_oriented_rcnn_1x_dota_ms",
    "lsknet_s_roi_transformer_1x_dota_ms",
    "lsknet_s_r3det_1x_dota_ms",
    "lsknet_s_s2anet_1x_dota_ms",
    "stripnet_s_strip_rcnn_1x_dota_ms",
    "lwganet_l2_oriented_rcnn_30e_dota_ss",
]


# Operators whose result a program has to know to go on.
WAITING = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::equal",
    "torchvision::nms",
)
CPU_ONLY = ("finite_rows", "_checked", "_run")  # functions that look at values on a CPU alone


class Waits(TorchDispatchMode):
    """Counts the waits for a device by the lines that cause them, the innermost outside of torch first."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator."""
        name = operator._schema.name
        places = args[1] if "index" in name and len(args) > 1 and isinstance(args[1], list | tuple) else ()
        masked = any(one is not None and one.dtype == torch.bool for one in places)
        if masked and "index_put" in name and args[2].numel() == 1 and args[2].device.type == "cpu":
            masked = False  # a number into a mask: nothing is counted
        if masked or name in WAITING:
            frames = [one for one in traceback.extract_stack()[:-1] if "/torch/" not in one.filename]
            if not any(one.name in CPU_ONLY for one in frames):
                callers = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames[:-4:-1]]
                self.seen[f"{name} in {' < '.join(callers)}"] += 1
        return operator(*args, **(kwargs or {}))


def count_waits(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Print where a step of one config waits for its device."""
    cfg = load_config(name)
    model = build(cfg, args.device)
    data = draw(args.size, args.batch, args.objects, 15)
    for _ in range(2):  # what is kept from step to step is there in the second
        with Waits() as waits:
            losses = model(**model.data_preprocessor(data, True), mode="loss")
            model.parse_losses(losses)[0].backward()
    total = sum(waits.seen.values())
    print(f"{name:<45} {total} waits")
    for place, count in waits.seen.most_common():
        print(f"{count:>6} {place}")
    return dict(config=name, waits=total)


def build(cfg: Config, device: str) -> nn.Module:
    """Build the config's model without published weights."""
    cfg.model.backbone.pop("init_cfg", None)
    torch.manual_seed(0)
    model = build_network(cfg)
    model.init_weights()
    return model.to(device).train()


def draw(size: int, batch: int, objects: int, classes: int) -> dict[str, list[Any]]:
    """Draw a batch as a data loader gives it."""
    generator = torch.Generator().manual_seed(1)
    images, samples = [], []
    for _ in range(batch):
        images.append(torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator))
        centre = torch.rand(objects, 2, generator=generator) * size
        long = torch.rand(objects, 1, generator=generator) * 108 + 12
        short = long * (torch.rand(objects, 1, generator=generator) * 0.7 + 0.3)
        angle = (torch.rand(objects, 1, generator=generator) - 0.5) * 3.14
        boxes = torch.cat([centre, long, short, angle], 1)
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        labels = torch.randint(0, classes, (objects,), generator=generator)
        sample.gt_instances = InstanceData(bboxes=RotatedBoxes(boxes), labels=labels)
        sample.ignored_instances = InstanceData(bboxes=RotatedBoxes(boxes[:0]), labels=labels[:0])
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Time the step of one config."""
    cfg = load_config(name)
    model = build(cfg, args.device)
    wrapper = cfg.optim_wrapper.to_dict()
    if args.amp:
        wrapper.update(type="AmpOptimWrapper", dtype=args.amp)
    optimiser = build_optim_wrapper(model, wrapper)
    data = draw(args.size, args.batch, args.objects, 15)
    on_gpu = args.device != "cpu"

    def step() -> float:
        start = time.perf_counter()
        model.train_step(data, optimiser)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    warm = [step() for _ in range(3)]
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(step() for _ in range(args.repeats))
    row = dict(
        config=name,
        first_s=warm[0],
        step_s=seconds,
        images_per_s=args.batch / seconds,
        memory_gib=torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
    )
    if args.profile:
        kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * on_gpu
        with torch.profiler.profile(activities=kinds) as profile:
            step()
        key = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=key, row_limit=18, max_name_column_width=60))
    return row


def main() -> None:
    """Measure and print a row per config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--amp", choices=["float16", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--waits", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if args.device != "cpu" else platform.processor()
    print(f"{device}, torch {torch.__version__}, {args.batch} x {args.size} px, {args.amp or 'float32'}")
    rows = []
    for name in args.configs:
        if args.waits:
            rows.append(count_waits(name, args))
            continue
        row = measure(name, args)
        rows.append(row)
        memory = f"{row['memory_gib']:.1f} GiB" if row["memory_gib"] else ""
        print(f"{name:<45} {row['step_s']:.3f} s  {row['images_per_s']:.1f} images/s  {memory}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
