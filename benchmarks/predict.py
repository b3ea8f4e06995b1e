"""Where the time of ``rsf predict`` goes on a large PNG and GeoTIFF, and its rate against the bare model's.

A published config with random weights predicts a generated scene from the file to the written results. Its
rate is compared with that of the bare model on the same windows, which were read before; the better of
``--repeats`` runs counts for both. Times of parts are sums over the threads they run in: windows are read and
merged in threads of their own while the model works, so that parts can add up to more than the whole.
CPU seconds of both say what the rest costs where other programs disturb the clock.

    python benchmarks/predict.py --side 8000
    python benchmarks/predict.py --side 4096 --config lsknet/lsknet_t_oriented_rcnn_1x_dota_ss_le90
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from scenes import make_scene, random_run

from rsfoundation.inference import predict as prediction
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, open_scene, predict, scene_grid
from rsfoundation.inference.scene_run import MapRun, ObjectRun
from rsfoundation.inference.scenes import Scene

SEGMENTOR = "lsknet/lsknet_t_unetformer_45e_potsdam"
# Of which class or module, which call, name of the row.
PARTS: tuple[tuple[Any, str, str], ...] = (
    (Scene, "valid", "read: validity"),
    (Scene, "crops", "read: decode"),
    (WindowModel, "pack", "read: test pipeline"),
    (WindowModel, "predict_packed", "model"),
    (MapRun, "add", "merge"),
    (ObjectRun, "add", "merge"),
    (prediction, "write_products", "write"),
)


class Clock:
    """Seconds of named parts over all threads; a part within another of its thread counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._thread = threading.local()

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return ``call`` with its time added to ``name``."""

        @wraps(call)
        def run(*args: Any, **kwargs: Any) -> Any:
            inside = getattr(self._thread, "inside", 0.0)
            self._thread.inside = 0.0
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - started
                with self._lock:
                    self.seconds[name] += seconds - self._thread.inside
                self._thread.inside = inside + seconds

        return run

    @contextmanager
    def running(self, model: WindowModel) -> Iterator[None]:
        """Put the clock around the parts of a prediction."""
        network = model.network
        inner = (
            (network.data_preprocessor, "forward", "model: normalise"),
            (network.backbone, "forward", "model: backbone"),
        )
        with ExitStack() as stack:
            for owner, call, name in (*PARTS, *inner):
                timed = self.timed(getattr(owner, call), name)
                stack.enter_context(mock.patch.object(owner, call, timed))
            yield


def measure(model: WindowModel, file: Path, out: Path, repeats: int) -> dict[str, Any]:
    """Time the bare model and the whole prediction of one scene, in turn."""
    options = PredictOptions(picture=False)
    scene = open_scene([file], model.loading)
    grid = scene_grid(model, scene, options)
    windows = [window for row in range(len(grid.tops)) for window in grid.row(row)]
    crops = [scene.crops(window) for window in windows]
    scene.close()
    model.predict([crops[0]])
    bare, whole, parts = [], [], {}
    bare_cpu, whole_cpu = [], []
    for attempt in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        for crop in crops:
            model.predict([crop])
        bare.append(time.perf_counter() - started)
        bare_cpu.append(time.process_time() - used)
        clock = Clock()
        with clock.running(model):
            started, used = time.perf_counter(), time.process_time()
            predict(model, [file], out / str(attempt), options)
            seconds = time.perf_counter() - started
            whole_cpu.append(time.process_time() - used)
        if not whole or seconds < min(whole):
            parts = dict(clock.seconds)
        whole.append(seconds)
    return {
        "windows": len(windows),
        "bare model, s": min(bare),
        "start to end, s": min(whole),
        "rate of the bare model": min(bare) / min(whole),
        "bare model, CPU-s": min(bare_cpu),
        "start to end, CPU-s": min(whole_cpu),
        "parts, s": {name: round(value, 2) for name, value in sorted(parts.items())},
    }


def main() -> None:
    """Measure both formats and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=8000, help="side of the scene in pixels")
    parser.add_argument("--config", default=SEGMENTOR, help="a published config")
    parser.add_argument("--formats", nargs="+", default=["png", "tif"], choices=["png", "tif"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_scene(folder / "scene.tif", options.side, options.side)
        model = WindowModel(random_run(options.config, folder), options.config)
        for kind in options.formats:
            file = folder / f"scene.{kind}"
            if kind == "png":
                import rasterio.shutil

                rasterio.shutil.copy(folder / "scene.tif", file, driver="PNG")
            results[kind] = measure(model, file, folder / kind, options.repeats)
    print(f"{options.config}, {options.side} x {options.side}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {model.device}")
    for kind, found in results.items():
        print(kind)
        for key, value in found.items():
            lines = value.items() if isinstance(value, dict) else ((key, value),)
            for label, number in lines:
                print(f"  {label:28}{number:12,.3f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
