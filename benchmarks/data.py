"""Preparing, loading and checking data sets, next to the tools of mmrotate and mmsegmentation.

    python benchmarks/data.py [--only NAME ...] [--threads 2] [--repeats 3] [--cpu] [--json FILE]

Both sides get the same files, made here of drawn scenes; results are compared before anything is timed.
The peers are the scripts that come with the installed packages, called in this process, with two processes
for tiling as they have an option for it. "asked" is the goal: times as fast as the peer, seconds, or GB.
The decode rate is that of `cv2.imread` in as many threads; the check also compares all images with each
other. Peak memory is that of a process that does nothing else, with all it imports. `--cpu` counts seconds
of all cores together, for a machine that has other work.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

SLOW = 5.0  # seconds
OBJECTS = 216  # labels of an image: the mean of DOTA 1.5


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: The work.
        size: Its amount.
        ours: Seconds, or gigabytes.
        asked: Times as fast as the peer; where there is none, the most that ``ours`` may be.
        peer: The call it is compared with; empty where there is none.
        theirs: Of the peer.
        unit: Of ``ours``.
    """

    name: str
    size: str
    ours: float
    asked: float
    peer: str = ""
    theirs: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """How many times as fast ours is."""
        return self.theirs / self.ours if self.theirs is not None else None

    @property
    def met(self) -> bool:
        """Whether the goal was reached."""
        return self.ratio >= self.asked if self.ratio is not None else self.ours <= self.asked


def cpu_seconds() -> float:
    """Return the seconds that this process and those it waited for have computed."""
    return sum(os.times()[:4])


SECONDS = [time.perf_counter]  # the clock in use


def clock(call: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of a call, after one that warms up; slow calls are timed once more."""
    times = []
    for _ in range(repeats + 1):
        started = SECONDS[0]()
        call()
        times.append(SECONDS[0]() - started)
        if len(times) > 1 and times[0] > SLOW:
            break
    return statistics.median(times[1:])


def script_of(package: str, path: str) -> Any:
    """Return a script that comes with an installed package, as a module."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    file = Path(found.origin).parent / ".mim/tools" / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # its processes look for it by name
    spec.loader.exec_module(module)
    return module


class Scenes:
    """Pictures of any size, put together of drawn scenes of 512 px."""

    def __init__(self, folder: Path) -> None:
        from rsfoundation.prepare.toy.make import make_toy_scenes

        counts = dict(train=8, val=0, test=0)
        made = make_toy_scenes(folder, size=512, counts=counts, large=0, tasks=("detection",))
        files = sorted((Path(made.folders["detection"]) / "train/images").glob("*.png"))
        self.parts = [cv2.imread(str(file)) for file in files]

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Return a square picture ``(side, side, 3)``."""
        count = -(-side // 512)
        rows = [
            np.concatenate(
                [np.rot90(self.parts[rng.integers(8)], rng.integers(4)) for _ in range(count)], axis=1
            )
            for _ in range(count)
        ]
        return np.ascontiguousarray(np.concatenate(rows)[:side, :side])


def draw_labels(rng: np.random.Generator, side: int, count: int) -> list[Any]:
    """Return objects of 8 to 60 px with corners to a tenth of a pixel, as DOTA's are."""
    from rsfoundation.geometry.boxes import rbox_to_quad
    from rsfoundation.io.dota import LabelledBox

    sizes = rng.uniform(8, 60, (count, 2))
    boxes = [rng.uniform(60, side - 60, (count, 2)), sizes, rng.uniform(-1.5, 1.5, (count, 1))]
    quads = np.round(rbox_to_quad(np.concatenate(boxes, axis=1)).reshape(-1, 8), 1)
    return [LabelledBox(tuple(quad), "ship") for quad in quads.tolist()]


def bench_tiling(scenes: Scenes, root: Path, repeats: int, threads: int) -> list[Row]:
    """Written patches of both presets."""
    from rsfoundation.geometry.tiling import DOTA_TILINGS
    from rsfoundation.io.dota import write_dota_txt
    from rsfoundation.prepare.tiling import tile_dota

    rng, source, side, count = np.random.default_rng(0), root / "scenes", 4096, 4
    for folder in ("images", "labelTxt"):
        (source / folder).mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(source / f"images/P{number}.png"), scenes.draw(rng, side))
        write_dota_txt(source / f"labelTxt/P{number}.txt", draw_labels(rng, side, OBJECTS))
    tool = script_of("mmrotate", "data/dota/split/img_split.py")
    rows = []
    for preset, gap, rates in (("ss", 200, ("1.0",)), ("ms", 500, ("0.5", "1.0", "1.5"))):
        theirs_at, ours_at = root / f"theirs_{preset}", root / f"ours_{preset}"
        words = [
            "img_split", "--img-dirs", str(source / "images"), "--ann-dirs", str(source / "labelTxt"),
            "--save-dir", str(theirs_at), "--sizes", "1024", "--gaps", str(gap), "--rates", *rates,
            "--nproc", str(threads), "--padding-value", "104", "116", "124", "--save-ext", ".png",
        ]  # fmt: skip

        def theirs(words: list[str] = words, folder: Path = theirs_at) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            with patch.object(sys, "argv", words), quiet():
                tool.main()
            for process in multiprocessing.active_children():
                process.join(10)  # its manager has no end of its own

        def ours(preset: Any = preset, folder: Path = ours_at) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            with quiet():
                tile_dota([source], folder, tiling=DOTA_TILINGS[preset], workers=threads)

        ours()
        theirs()
        patches = compare_patches(ours_at, theirs_at)
        size = f"{count} images of {side} px, {count * OBJECTS} labels, {patches} patches"
        mine, peer = clock(ours, repeats), clock(theirs, repeats)
        rows.append(Row(f"tiling, {preset}", size, mine, 2.5, f"img_split.py, nproc={threads}", peer))
    return rows


@contextlib.contextmanager
def quiet() -> Any:
    """Keep the log and what scripts print off the table."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def compare_patches(ours: Path, theirs: Path) -> int:
    """Stop where two folders hold other pixels or labels; return the number of patches."""
    names = sorted(path.stem for path in (ours / "images").iterdir())
    if names != sorted(path.stem for path in (theirs / "images").iterdir()):
        raise SystemExit("patches differ")
    labels = 0
    for name in names:
        one, other = (cv2.imread(str(folder / f"images/{name}.png")) for folder in (ours, theirs))
        if not np.array_equal(one, other):
            raise SystemExit(f"pixels differ: {name}")
        one, other = (
            np.array([line.split()[:8] for line in (folder / f"annfiles/{name}.txt").open()], dtype=float)
            for folder in (ours, theirs)
        )
        if one.shape != other.shape or not np.allclose(one, other, atol=0.051):
            raise SystemExit(f"labels differ: {name}")
        labels += len(one)
    if not labels:
        raise SystemExit("no labels")
    return len(names)


def bench_isaid(scenes: Scenes, root: Path, repeats: int, threads: int) -> list[Row]:
    """Colours of one image of iSAID's usual size to classes."""
    from rsfoundation.datasets.segmentation import ISAIDDataset
    from rsfoundation.io.label_images import as_palette, decode_colours

    palette = as_palette(ISAIDDataset.METAINFO["palette"])
    tool = script_of("mmseg", "dataset_converters/isaid.py")
    rng, side = np.random.default_rng(1), 3000
    coarse = rng.integers(0, 16, (side // 50, side // 50)).repeat(50, axis=0).repeat(50, axis=1)
    mask = np.array(palette, np.uint8)[coarse]
    if not np.array_equal(decode_colours(mask, palette), tool.iSAID_convert_from_color(mask)):
        raise SystemExit("classes differ")
    mine = clock(lambda: decode_colours(mask, palette), repeats)
    peer = clock(lambda: tool.iSAID_convert_from_color(mask), repeats)
    return [
        Row("iSAID's colours", f"{side} x {side} px, one thread", mine, 10, "iSAID_convert_from_color", peer)
    ]


def bench_index(scenes: Scenes, root: Path, repeats: int, threads: int) -> list[Row]:
    """A data set of 70 000 patches, from its index, with all label files looked at."""
    from rsfoundation.datasets.oriented.dota import DOTADataset
    from rsfoundation.datasets.oriented.patch_index import write_index
    from rsfoundation.io.dota import write_dota_txt
    from rsfoundation.prepare.tiling import index_of_folder

    rng, folder, count = np.random.default_rng(2), root / "patches", 70_000
    for name in ("images", "annfiles"):
        (folder / name).mkdir(parents=True)
    small = cv2.imencode(".png", np.zeros((1024, 1024, 3), np.uint8))[1].tobytes()
    objects = draw_labels(rng, 1024, 4096)
    for patch_number in range(count):
        name = (
            f"P{patch_number // 36:04}__1024__{824 * (patch_number % 6)}___{824 * (patch_number % 36 // 6)}"
        )
        start = int(rng.integers(4096 - 20))
        write_dota_txt(folder / f"annfiles/{name}.txt", objects[start : start + int(rng.integers(1, 20))])
        (folder / f"images/{name}.png").write_bytes(small)
    with quiet():
        write_index(folder, index_of_folder(folder))

    def ours() -> Any:
        with quiet():
            return DOTADataset(data_root=str(folder), split="", pipeline=[])

    data = ours()
    if len(data) != count:
        raise SystemExit("patches are missing")
    size = f"{count} patches, {len(data.data_list.quads)} labels"
    return [Row("a data set from its index", size, clock(ours, repeats), 3.0)]


def bench_check(scenes: Scenes, root: Path, repeats: int, threads: int) -> list[Row]:
    """`rsf check` of images that all differ, next to decoding them."""
    from rsfoundation.io.dota import write_dota_txt
    from rsfoundation.prepare.check.run import check_data

    rng, folder, count = np.random.default_rng(3), root / "checked", 400
    for split in ("train", "val"):
        for name in ("images", "labelTxt"):
            (folder / split / name).mkdir(parents=True)
    files = []
    for number in range(count):
        place = folder / ("train" if number < count * 3 // 4 else "val")
        pixels = scenes.draw(rng, 1024).astype(np.int16) + rng.integers(-6, 7, (1024, 1024, 3))
        files.append(place / f"images/P{number:04}.png")
        cv2.imwrite(str(files[-1]), pixels.clip(0, 255).astype(np.uint8))
        write_dota_txt(place / f"labelTxt/P{number:04}.txt", draw_labels(rng, 1024, 40))

    def decode() -> None:
        with ThreadPoolExecutor(threads) as pool:
            if not all(pool.map(lambda file: cv2.imread(str(file)) is not None, files)):
                raise SystemExit("an image is broken")

    def ours() -> Any:
        with quiet():
            return check_data(folder, workers=threads)

    checked = ours()
    if sum(len(one.data.items) for one in checked.splits) != count:
        raise SystemExit("images are missing")
    if checked.errors:
        raise SystemExit(f"problems in sound data: {checked.describe()}")
    times = [
        (clock(decode, 1), clock(ours, 1)) for _ in range(repeats)
    ]  # in turn, for a machine is not steady
    peer, mine = (statistics.median(values) for values in zip(*times, strict=True))
    size = f"{count} images of 1024 px, {threads} threads"
    return [Row("rsf check", size, mine, 0.8, "cv2.imread of all", peer)]


_TILE = """
import sys
from pathlib import Path
from rsfoundation.geometry.tiling import DOTA_TILINGS
from rsfoundation.prepare.tiling import tile_dota
source, out, preset, workers = sys.argv[1:]
made = tile_dota([Path(source)], Path(out), tiling=DOTA_TILINGS[preset], workers=int(workers))
lines = Path("/proc/self/status").read_text().splitlines()  # getrusage has the peak of the parent as well
print("PEAK", made.patches, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6)
"""


def bench_memory(scenes: Scenes, root: Path, repeats: int, threads: int) -> list[Row]:
    """Peak memory of tiling one image of 20 000 px, in formats that are read by windows or from the top."""
    import rasterio

    rng, side, rows = np.random.default_rng(4), 20_000, []
    for suffix, options in (
        (
            "tif",
            dict(driver="GTiff", tiled=True, blockxsize=512, blockysize=512, compress="deflate", zlevel=1),
        ),
        ("png", dict(driver="PNG", zlevel=1)),
    ):
        source = root / f"large_{suffix}"
        (source / "images").mkdir(parents=True)
        whole = root / "whole.tif"
        shape = dict(width=side, height=side, count=3, dtype="uint8")
        with rasterio.open(
            whole, "w", driver="GTiff", compress="deflate", zlevel=1, interleave="pixel", **shape
        ) as file:
            for top in range(0, side, 500):
                strip = np.concatenate(
                    [scenes.draw(rng, 512)[:500, :500] for _ in range(side // 500)], axis=1
                )
                window = rasterio.windows.Window(0, top, side, 500)
                file.write(np.moveaxis(strip, 2, 0), window=window)
        from rasterio.shutil import copy

        copy(whole, source / f"images/P1.{suffix}", **options)
        whole.unlink()
        for preset in ("ss", "ms"):
            out = root / "large_out"
            words = [sys.executable, "-c", _TILE, str(source), str(out), preset, str(threads)]
            found = subprocess.run(words, capture_output=True, text=True, check=True)
            _, patches, peak = next(
                line.split() for line in found.stdout.splitlines() if line.startswith("PEAK")
            )
            size = f"{side} x {side} px, {suffix}, {patches} patches"
            rows.append(Row(f"peak memory, {preset}", size, float(peak), 1.0, unit="GB"))
            shutil.rmtree(out)
    return rows


BENCHES: dict[str, Callable[[Scenes, Path, int, int], list[Row]]] = {
    "tiling": bench_tiling,
    "isaid": bench_isaid,
    "index": bench_index,
    "check": bench_check,
    "memory": bench_memory,
}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="seconds of all cores in place of a clock's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import mmrotate
    import mmseg
    from mmengine.logging import MMLogger

    from rsfoundation import __version__

    SECONDS[0] = cpu_seconds if options.cpu else time.perf_counter
    MMLogger.get_instance("benchmark", log_level="ERROR")
    cv2.setNumThreads(1)  # decoding and encoding are parallel over images
    conditions = dict(
        threads=options.threads,
        seconds="of all cores" if options.cpu else "of a clock",
        python=platform.python_version(),
        opencv=cv2.__version__,
        numpy=np.__version__,
        mmrotate=mmrotate.__version__,
        mmseg=mmseg.__version__,
        rsfoundation=__version__,
    )
    print(", ".join(f"{name} {value}" for name, value in conditions.items()), flush=True)
    print(f"{'what':27}{'peer s':>9}{'ours':>12}{'ratio':>8}{'asked':>9}  met  size; peer")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, quiet_log():
        scenes = Scenes(Path(folder) / "toy")
        for name in options.only:
            for row in BENCHES[name](scenes, Path(folder), options.repeats, options.threads):
                rows.append(row)
                peer = f"{row.theirs:9.3f}" if row.theirs is not None else " " * 9
                ratio = f"{row.ratio:8.2f}" if row.ratio is not None else " " * 8
                asked = f"{row.asked:g}x" if row.peer else f"{row.asked:g} {row.unit}"
                numbers = f"{row.name:27}{peer}{row.ours:9.3f} {row.unit:2}{ratio}{asked:>9}"
                note = f"{row.size}; {row.peer}" if row.peer else row.size
                print(f"{numbers}  {'yes' if row.met else 'NO ':4} {note}", flush=True)
    if options.json:
        content = [dict(asdict(row), ratio=row.ratio, met=row.met) for row in rows]
        options.json.write_text(json.dumps(dict(conditions=conditions, rows=content), indent=2))
    raise SystemExit(0 if all(row.met for row in rows) else 1)


@contextlib.contextmanager
def quiet_log() -> Any:
    """Keep the scripts' loggers off standard output."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    main()
