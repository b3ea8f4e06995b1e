"""Whole scenes: memory, throughput and disk of ``rsf predict`` on a generated GeoTIFF; stitching of boxes.

A stand-in segmentor of seven classes (a colour look-up) keeps the model cheap, so that what is measured is
everything around it. Throughput is compared with the bare model on the same windows, read before. `--real`
takes a published segmentor with random weights instead, `--joint` heads on one backbone.

    python benchmarks/scenes.py --side 30000 --json scenes.json
    python benchmarks/scenes.py --side 30000 --processes 1 2 3
    python benchmarks/scenes.py --real 4096
    python benchmarks/scenes.py --real 3072 --processes 1 2 3
    python benchmarks/scenes.py --joint 2048
    python benchmarks/scenes.py --boxes 1000000
    python benchmarks/scenes.py --pair 10000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
CLASSES = 7


def make_scene(path: Path, height: int, width: int, seed: int = 0) -> None:
    """Write a tiled 3-band GeoTIFF of smooth regions, row of tiles by row of tiles."""
    import rasterio

    rng = np.random.default_rng(seed)
    profile = dict(driver="GTiff", width=width, height=height, count=3, dtype="uint8", crs="EPSG:32633")
    layout = dict(tiled=True, blockxsize=512, blockysize=512, compress="deflate", bigtiff="yes")
    transform = rasterio.transform.from_origin(500000, 5200000, 0.5, 0.5)
    with rasterio.open(path, "w", **profile, **layout, transform=transform) as made:
        for top in range(0, height, 512):
            rows = min(512, height - top)
            cells = rng.integers(0, CLASSES, (-(-rows // 64), -(-width // 64)), dtype=np.uint8)
            red = np.kron(cells, np.ones((64, 64), np.uint8))[:rows, :width] * 30 + 5
            bands = np.stack([red, red // 2 + 1, 255 - red])
            made.write(bands, window=((top, top + rows), (0, width)))


class DiskPeak:
    """The most bytes that the files below a folder held while it was watched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most, self._stop = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            total = 0
            for file in self.folder.rglob("*"):
                try:
                    total += file.stat().st_blocks * 512
                except OSError:
                    continue
            self.most = max(self.most, total)

    def __enter__(self) -> DiskPeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_scene(height: int, width: int, folder: Path) -> dict[str, float]:
    """Predict a generated scene and compare with the bare model."""
    from exact_models import write_run

    from rsfoundation.inference.model import WindowModel
    from rsfoundation.inference.predict import PredictOptions, open_scene, predict, scene_grid

    file = folder / "scene.tif"
    make_scene(file, height, width)
    model = WindowModel(write_run(folder / "run", "segmentation", CLASSES), device="cpu")
    options = PredictOptions(window=1024, overlap=204, formats=("tif",), picture=False)
    scene = open_scene([file], model.loading)
    grid = scene_grid(model, scene, options)
    windows = grid.row(0)[:8]
    crops = [scene.crops(window) for window in windows]
    model.predict([crops[0]])
    started = time.perf_counter()
    for crop in crops:
        model.predict([crop])
    bare = (time.perf_counter() - started) / len(crops)
    loaded = peak_mb()
    out = folder / "out"
    out.mkdir()
    started = time.perf_counter()
    with DiskPeak(out) as disk:
        (done,) = predict(model, [file], out, options)
    seconds = time.perf_counter() - started
    size = (out / "scene.tif").stat().st_size
    return {
        "height": height,
        "width": width,
        "windows": done.windows,
        "bare_model_seconds_per_window": bare,
        "seconds_per_window": seconds / done.windows,
        "throughput_of_bare_model": bare * done.windows / seconds,
        "megapixels_per_second": height * width / 1e6 / seconds,
        "peak_mb_above_loaded_model": peak_mb() - loaded,
        "disk_peak_over_final_size": disk.most / size,
        "final_mb": size / 2**20,
    }


def run_pair(side: int, folder: Path) -> dict[str, float]:
    """Predict a pair of dates with a few hundred changed rectangles: change map, polygons and picture."""
    import rasterio
    from exact_models import write_run

    from rsfoundation.inference.model import WindowModel
    from rsfoundation.inference.predict import PredictOptions, predict

    dates = [folder / "first.tif", folder / "second.tif"]
    for date in dates:
        make_scene(date, side, side)
    rng = np.random.default_rng(0)
    with rasterio.open(dates[1], "r+") as second:
        for left, top in rng.integers(0, side - 100, (400, 2)):
            height, width = rng.integers(20, 100, 2)
            roof = np.full((3, height, width), 200, np.uint8)
            second.write(roof, window=((top, top + height), (left, left + width)))
    model = WindowModel(write_run(folder / "run", "change", 2), device="cpu")
    model.predict([[np.zeros((1024, 1024, 3), np.uint8)] * 2])
    loaded, started = peak_mb(), time.perf_counter()
    options = PredictOptions(window=1024, overlap=204, formats=("tif", "gpkg"))
    (done,) = predict(model, dates, folder / "out", options)
    return {
        "pair_side": side,
        "pair_windows": done.windows,
        "pair_seconds": time.perf_counter() - started,
        "pair_peak_mb_above_loaded_model": peak_mb() - loaded,
    }


def run_processes(
    height: int, width: int, counts: list[int], folder: Path, published: bool
) -> dict[str, float]:
    """Predict a generated scene with several numbers of processes; their files must have equal bytes."""
    from exact_models import write_run

    file = folder / "scene.tif"
    run = random_run(_REAL, folder) if published else write_run(folder / "run", "segmentation", CLASSES)
    windows = ["--config", _REAL] if published else ["--window=1024", "--overlap=204"]
    make_scene(file, height, width)
    root = Path(__file__).parents[1]
    paths = [str(root), str(root / "tests" / "helpers")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    measured: dict[str, float] = {}
    digests = set()
    for count in counts:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command += [
            str(root / "tools" / "predict.py"),
            str(file),
            "-m",
            str(run),
            "-f",
            "tif",
            "--no-picture",
            *windows,
        ]
        command += ["--launcher=pytorch", "--device=cpu"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "-o", str(folder / f"out{count}")], check=True, env=environment, stdout=sys.stderr
        )
        measured[f"seconds_with_{count}_processes"] = time.perf_counter() - started
        with (folder / f"out{count}" / "scene.tif").open("rb") as made:
            digest = hashlib.sha256()
            while block := made.read(1 << 24):
                digest.update(block)
        digests.add(digest.hexdigest())
    return {**measured, "distinct_results": len(digests)}


def random_run(config: str, folder: Path, backbone: dict[str, torch.Tensor] | None = None) -> Path:
    """Write a checkpoint of a published config with random weights, on a given backbone."""
    from mmengine.registry import MODELS, init_default_scope

    from rsfoundation.engine.config import load_config

    cfg = load_config(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    if backbone is not None:
        network.backbone.load_state_dict(backbone)
    file = folder / config.rsplit("/")[-1] / "random.pth"
    file.parent.mkdir(parents=True)
    torch.save(dict(state_dict=network.state_dict(), meta={}), file)
    return file


_AOI = "500000,5199800,500100,5200000"  # a few windows
_REAL = "lsknet/lsknet_t_unetformer_45e_potsdam"
_HEADS = tuple(f"quickstart/{task}_toy_lsknet_t" for task in ("segmentation", "detection", "change"))


def run_real(side: int, folder: Path) -> dict[str, float]:
    """Predict a generated scene with a published segmentor; the better of two runs, like the bare model's."""
    from rsfoundation.inference.model import WindowModel
    from rsfoundation.inference.predict import PredictOptions, open_scene, predict, scene_grid

    file = folder / "scene.tif"
    make_scene(file, side, side)
    model = WindowModel(random_run(_REAL, folder), _REAL)
    options = PredictOptions(formats=("tif",), picture=False)
    scene = open_scene([file], model.loading)
    grid = scene_grid(model, scene, options)
    windows = [window for row in range(len(grid.tops)) for window in grid.row(row)]
    crops = [scene.crops(window) for window in windows]
    model.predict([crops[0]])
    bare, whole = [], []
    for attempt in range(2):
        started = time.perf_counter()
        for crop in crops:
            sample = model.predict([crop])[0]
            sample.seg_logits.data.sum().item()  # a GPU has done its work
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        predict(model, [file], folder / f"out{attempt}", options)
        whole.append(time.perf_counter() - started)
    return {
        "real_windows": len(windows),
        "real_bare_model_seconds_per_window": min(bare) / len(windows),
        "real_seconds_per_window": min(whole) / len(windows),
        "real_throughput_of_bare_model": min(bare) / min(whole),
    }


def run_joint(side: int, folder: Path) -> dict[str, float]:
    """Predict a pair of dates with three heads on one backbone: apart, then together."""
    from rsfoundation.inference.model import WindowModel, share_backbone
    from rsfoundation.inference.predict import PredictOptions, predict_scenes

    dates = [folder / "first.tif", folder / "second.tif"]
    for seed, date in enumerate(dates):
        make_scene(date, side, side, seed)
    backbone: dict[str, torch.Tensor] | None = None
    models = []
    for config in _HEADS:
        model = WindowModel(random_run(config, folder, backbone), config)
        backbone = backbone or model.network.backbone.state_dict()
        models.append(model)
    options = PredictOptions(window=256, overlap=64, formats=("gpkg",), picture=False)

    def timed(name: str, chosen: list[WindowModel], files: list[Path]) -> float:
        predict_scenes(
            chosen, files, folder / f"warm_{name}", PredictOptions(**{**vars(options), "aoi": _AOI})
        )
        started = time.perf_counter()
        (done,) = predict_scenes(chosen, files, folder / name, options)
        if done.error is not None:
            raise done.error
        return time.perf_counter() - started

    apart = [
        timed(f"apart{place}", [model], dates[-model.scenes.images_per_scene :])
        for place, model in enumerate(models)
    ]
    shared = share_backbone(models)
    together = timed("together", models, dates)
    return {
        "heads_apart_seconds": sum(apart),
        "heads_together_seconds": together,
        "joint_pass_saving": 1 - together / sum(apart),
        "images_through_backbone": shared.runs,
        "images_asked_of_backbone": shared.asked,
    }


def run_cog(side: int, folder: Path) -> dict[str, float]:
    """Write a class map of ``side`` x ``side`` from finished rows in memory to a COG."""
    from rsfoundation.io.cog import CogOptions, write_cog
    from rsfoundation.io.georeference import GeoReference
    from rsfoundation.io.tile_rows import TILE, TileRows

    rng = np.random.default_rng(0)
    rows = TileRows(folder, side, side)
    blocks = [np.kron(rng.integers(0, 7, (8, -(-side // 64))), np.ones((64, 64), int)) for _ in range(4)]
    started = time.perf_counter()
    with DiskPeak(folder) as disk:
        for index in range(rows.count):
            top, bottom = rows.rows_of(index)
            rows.write(index, blocks[index % 4][: bottom - top, :side].astype(np.uint8))
        reference = GeoReference("EPSG:32633", (0.5, 0, 500000, 0, -0.5, 5200000))
        write_cog(rows, folder / "map.tif", CogOptions(reference, nodata=255))
    seconds = time.perf_counter() - started
    return {
        "cog_side": side,
        "cog_megapixels_per_second": side * side / 1e6 / seconds,
        "cog_disk_peak_over_final_size": disk.most / (folder / "map.tif").stat().st_size,
        "tile": TILE,
    }


def run_boxes(count: int) -> dict[str, float]:
    """Stitch random oriented boxes of 15 classes in a scene of 30 000 x 30 000 pixels on one core."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    from rsfoundation.core.task import Classes, MergeOptions
    from rsfoundation.inference.grid import SceneGrid
    from rsfoundation.inference.oriented import WindowMerger

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    side = int(30_000 * (count / 1e6) ** 0.5) + 1024
    grid = SceneGrid.cover(side, side, 1024, 204)
    classes = Classes(tuple("abcdefghijklmno"), ((0, 0, 0),) * 15)
    windows = [window for row in range(len(grid.tops)) for window in grid.row(row)]
    each = -(-count // len(windows))

    def merger(per_window: int) -> WindowMerger:
        made = WindowMerger(side, side, classes, 0.05, 0.1, MergeOptions(False, grid))
        for window in windows:
            low, high = (0, 0, 8, 5, -1.57), (1023, 1023, 60, 20, 1.57)
            found = InstanceData(
                bboxes=torch.from_numpy(rng.uniform(low, high, (per_window, 5))).float(),
                scores=torch.from_numpy(rng.uniform(0.06, 0.99, per_window)),
                labels=torch.from_numpy(rng.integers(0, 15, per_window)),
            )
            made.add(window, DetDataSample(pred_instances=found))
        return made

    merger(2).result()  # kernels are compiled
    full = merger(each)
    before, started = peak_mb(), time.perf_counter()
    kept = len(full.result().scores)
    seconds = time.perf_counter() - started
    return {
        "boxes": each * len(windows),
        "kept": kept,
        "seconds": seconds,
        "peak_mb_above": peak_mb() - before,
    }


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, help="side of the generated scene")
    parser.add_argument("--height", type=int, help="its height, where that differs")
    parser.add_argument("--processes", type=int, nargs="+", help="predict the scene with so many processes")
    parser.add_argument("--real", type=int, help="side of a scene for a published segmentor")
    parser.add_argument("--joint", type=int, help="side of a pair of dates for three heads on one backbone")
    parser.add_argument("--pair", type=int, help="side of a generated pair of dates")
    parser.add_argument("--cog", type=int, help="side of a class map that is written as a COG")
    parser.add_argument("--boxes", type=int, help="how many oriented boxes are stitched")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("GDAL_CACHEMAX", "64")  # as the package has it; here GDAL writes scenes first
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.processes and (side := options.side or options.real):
            sides = (options.height or side, side)
            results |= run_processes(*sides, options.processes, Path(folder), published=not options.side)
        elif options.side:
            results |= run_scene(options.height or options.side, options.side, Path(folder))
    for side, measure in ((not options.processes and options.real, run_real), (options.joint, run_joint)):
        with tempfile.TemporaryDirectory() as folder:
            if side:
                results |= measure(side, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        if options.pair:
            results |= run_pair(options.pair, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        if options.cog:
            results |= run_cog(options.cog, Path(folder))
    if options.boxes:
        results |= run_boxes(options.boxes)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, numpy {np.__version__}")
    for name, value in results.items():
        print(f"{name:36}{value:14,.3f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
