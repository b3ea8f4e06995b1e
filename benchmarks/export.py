"""An oriented detector as an exported file against its own prediction by PyTorch, on a CPU.

A published config with random weights; the scores of its classes are spread and the background's is raised,
so that some boxes pass the threshold, as with trained weights. All sides start from one array of pixels and
end with suppressed boxes: the file's raw detections are suppressed by the package. The file is compared with
PyTorch first, as ``rsf export`` does it. Runs take turns; medians.

    python benchmarks/export.py --threads 2
    python benchmarks/export.py --config lsknet_t_rotated_retinanet_1x_dota_ss --size 512
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from rsfoundation.engine.benchmark import Prediction
from rsfoundation.engine.config import load_config
from rsfoundation.engine.export import Normalised, export
from rsfoundation.engine.export_detector import RawDetections, suppress
from rsfoundation.registry import MODELS

SPREAD, BACKGROUND = 20.0, 6.0  # of the classes' logits; added to that of the background
RUNTIMES = ("onnxruntime", "openvino")


def build(name: str) -> nn.Module:
    """Build a config's detector with random weights."""
    cfg = load_config(name)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg", None)
    if (cfg.model.backbone.get("norm_cfg") or {}).get("type") == "SyncBN":
        cfg.model.backbone.norm_cfg = dict(type="BN")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    if hasattr(model, "roi_head"):
        last = model.roi_head.bbox_head.fc_cls
        last.weight.data.mul_(SPREAD)
        last.bias.data[-1] += BACKGROUND
    return model


def sessions(file: Path, threads: int) -> dict[str, Callable[[Tensor], list[Tensor]]]:
    """Load a file in each runtime.

    Args:
        file: The ONNX file.
        threads: Of each runtime.
    """
    import onnxruntime
    import openvino

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    return {
        "onnxruntime": lambda x: [torch.from_numpy(one) for one in session.run(None, {"image": x.numpy()})],
        "openvino": lambda x: [torch.from_numpy(one) for one in compiled(x.numpy()).to_tuple()],
    }


def main() -> None:
    """Export, compare, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="lsknet_t_oriented_rcnn_1x_dota_ms", help="an oriented detector")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = build(options.config)
    raw = RawDetections(model)
    module = Normalised(raw, model.data_preprocessor).eval()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, options.size // 8, options.size // 8, generator=generator) * 255
    pixels = nn.functional.interpolate(coarse, scale_factor=8.0)
    eager, settings = Prediction(model), raw.metadata()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
        file = Path(folder) / "detector.onnx"
        started = time.perf_counter()
        done = export(module, 3, (options.size, options.size), file, openvino=True, pixels=pixels)
        print(f"exported and compared in {time.perf_counter() - started:.0f} s")
        sides: dict[str, Callable[[], Any]] = {"PyTorch": lambda: eager(module.normalised(pixels))}
        for name, run in sessions(file, options.threads).items():
            sides[name] = lambda run=run: suppress(*run(pixels)[:3], settings)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for attempt in range(options.repeats + 1):
            for name, side in sides.items():
                started = time.perf_counter()
                side()
                if attempt:  # the first warms up
                    seconds[name].append(time.perf_counter() - started)
        kept = {
            name: len(side()[0].pred_instances if name == "PyTorch" else side()[0])
            for name, side in sides.items()
        }
    median = {name: statistics.median(values) for name, values in seconds.items()}
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *RUNTIMES))
    print(
        f"{options.config}, float32, batch 1, {options.size} x {options.size}, {options.threads} threads, "
        f"{options.repeats} runs; {versions}"
    )
    for check in done.checks:
        print(f"{check.runtime}: {check.found}")
    print(f"{'':14}{'median, s':>12}{'of PyTorch':>12}{'boxes':>8}")
    for name, value in median.items():
        print(f"{name:14}{value:12.3f}{median['PyTorch'] / value:11.2f}x{kept[name]:8}")
    if options.json:
        options.json.write_text(json.dumps({"median, s": median, "boxes": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
