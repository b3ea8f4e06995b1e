"""Data sets of label maps and of pairs, as distributed, in one layout: whole or in tiles; safe
unpacking of the archives.
"""

from __future__ import annotations

import json
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import Manifest, locked, publish, read_manifest, refuse_foreign
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.core.task import Window
from rsfoundation.datasets.change import SECOND_Dataset
from rsfoundation.geometry.windows import window_grid
from rsfoundation.io.label_images import as_palette, decode_mask, read_label_image, unknown_label_error
from rsfoundation.io.label_maps import write_grey_png, write_indexed_png
from rsfoundation.io.rasters import RasterReader
from rsfoundation.prepare.check.items import Item, SplitData, read_splits

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_CHUNK = 2**20
_RESERVE = 2**28  # bytes of the disk that stay free
_RATIO, _SUSPICIOUS = 1000, 2**30  # compression that no image or label reaches, judged from a gigabyte on
_FIX = "get the archive from the data set's page again; nothing of it was kept"


def is_archive(path: Path) -> bool:
    """Return whether a file has the name of an archive that can be unpacked."""
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, folder: Path) -> int:
    """Unpack an archive into a folder; a broken or unsafe archive leaves nothing new there.

    Args:
        archive: A zip or tar file.
        folder: Made where it is missing; files of other archives in it stay.

    Returns:
        The number of files.

    Raises:
        DataError: The archive is broken, or larger than the disk; or a member has a path outside of the
            folder, is a link or a device, or unpacks to far more than images and labels do.
    """
    staging = folder / f".{archive.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        names = [
            _write(archive, staging, name, size, stream) for name, size, stream in _members(archive, staging)
        ]
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.LargeZipFile,
    ) as error:
        raise DataError(f"the archive cannot be read: {error}", where=archive, fix=_FIX) from error
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise DataError(f"the archive cannot be unpacked: {problem}", where=archive, fix=_FIX) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(names)


def _members(archive: Path, folder: Path) -> Iterator[tuple[PurePosixPath, int, IO[bytes]]]:
    """Yield path, size and content of each file of an archive that passed the rules."""
    free = shutil.disk_usage(folder).free - _RESERVE
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            _check_size(archive, sum(entry.file_size for entry in entries), free)
            for entry in entries:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise _unsafe(archive, entry.filename, "is a link")
                path = _inside(archive, entry.filename)
                if not entry.is_dir():
                    with packed.open(entry) as stream:
                        yield path, entry.file_size, stream
        return
    with tarfile.open(archive) as packed_tar:
        total = 0
        for member in packed_tar:
            path = _inside(archive, member.name)
            if member.isdir():
                continue
            if not member.isfile():
                raise _unsafe(archive, member.name, "is a link or a device")
            total += member.size
            _check_size(archive, total, free)
            content = packed_tar.extractfile(member)
            assert content is not None  # it is a file
            yield path, member.size, content


def _check_size(archive: Path, total: int, free: int) -> None:
    packed = archive.stat().st_size
    if total > _SUSPICIOUS and total > _RATIO * packed:
        raise DataError(f"{packed} bytes unpack to {total}: no archive of images", where=archive, fix=_FIX)
    if total > free:
        what = f"the archive unpacks to {total / 2**30:.1f} GiB, and {max(free, 0) / 2**30:.1f} GiB are free"
        raise DataError(what, where=archive, fix="free some space, or choose another disk with -o")


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise _unsafe(archive, name, "has a path outside of the folder")
    return path


def _unsafe(archive: Path, name: str, problem: str) -> DataError:
    return DataError(f"the member {name[:200]!r} {problem}", where=archive, fix=_FIX)


def _write(archive: Path, folder: Path, name: PurePosixPath, size: int, stream: IO[bytes]) -> PurePosixPath:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with target.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _unsafe(archive, str(name), "is larger than the archive says")
            file.write(chunk)
    return name


MAKER = "rsfoundation prepare"
_WHOLE = (0, 0)
TILINGS: Mapping[str, tuple[int, int]] = {  # side and stride of tiles; 0: images as they are
    "potsdam": (512, 256),
    "vaihingen": (512, 256),
    "loveda": _WHOLE,
    "uavid": (1024, 1024),
    "isaid": (896, 512),
    "whu-building": _WHOLE,
    "levir-cd": (256, 256),
    "s2looking": _WHOLE,
    "whu-cd": (256, 256),
    "cdd": _WHOLE,
    "clcd": _WHOLE,
    "sysu-cd": _WHOLE,
    "dsifn": _WHOLE,
    "second": _WHOLE,
}
_PAIR_FOLDERS = ("A", "B")
_SECOND_PALETTE = [tuple(colour) for colour in SECOND_Dataset.METAINFO["semantic_palette"]]
_SECOND_FOLDERS, _COVERS = ("im1", "im2"), ("label1", "label2")


@dataclass(frozen=True)
class PreparedMaps:
    """The folder that was made.

    Attributes:
        out: The folder: ``img_dir`` and ``ann_dir`` with a folder for each split; of pairs
            ``<split>/{A,B,label}``.
        report: Images read, and everything that was left out.
        tiles: Tiles of each split.
        resumed: Images whose tiles an interrupted run had written.
        reused: Whether the folder was there already, made in the same way.
    """

    out: Path
    report: DatasetReport
    tiles: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    reused: bool = False


def prepare_maps(
    kind: str,
    source: Path,
    out: Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    on_error: Policy = "fail",
    workers: int = 2,
) -> PreparedMaps:
    """Write the images and label maps of a data set to the folder that configs read.

    Label maps become class indices with the data set's palette (255: ignored); labels of changes become 0 and
    255. Tiles are named ``<image>_<x1>_<y1>_<x2>_<y2>``; the last of a row or column is shifted back inside.
    An interrupted run continues with the images that it had not finished.

    Args:
        kind: One of :data:`TILINGS`.
        source: The data set as distributed: a folder, an archive, or a folder of archives.
        out: Folder to make.
        window: Side of the tiles; 0 leaves images whole. The data set's usual one when not given.
        stride: Step of the tiles; the side when only that is given.
        on_error: ``fail`` stops at broken and missing files; ``skip`` leaves them out.
        workers: Threads.

    Raises:
        ConfigError: The tiling is impossible.
        DataError: The source is missing, broken or of another layout; ``out`` holds something else.
    """
    source, out = Path(source), Path(out)
    side, step = _tiling(kind, window, stride)
    parameters = dict(kind=kind, source=str(source.resolve()), window=side, stride=step, on_error=on_error)
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        done = read_manifest(out)
        if done is not None and done.parameters == parameters:
            return PreparedMaps(
                out, DatasetReport.from_json(done.content["report"]), done.content["tiles"], reused=True
            )
        splits = read_splits(unpacked_source(source, out), kind=kind)
        for split in splits:
            split.report.enforce(on_error)
        staging = _staging(out, parameters)
        report, tiles, resumed = DatasetReport(), dict[str, int](), 0
        for split in splits:
            outcomes = _write_split(kind, split, staging, side, step, workers)
            report.merge(split.report)
            report.enforce(on_error)
            tiles[split.name] = sum(count for count, _, _ in outcomes)
            resumed += sum(finished for _, finished, _ in outcomes)
        if not any(tiles.values()):
            raise DataError(f"no image is left: left out {report.describe()}", where=source)
        for name in (".done", "parameters.json"):
            path = staging / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        content = dict(
            tiles=tiles,
            report=report.to_json(),
            classes=splits[0].classes,
            palette=splits[0].palette,
        )
        publish(staging, out, Manifest(MAKER, parameters, content))
        remove_unpacked(out)
    return PreparedMaps(out, report, tiles, resumed)


def _tiling(kind: str, window: int | None, stride: int | None) -> tuple[int, int]:
    if kind not in TILINGS:
        raise ConfigError(f"no such data set: {kind}", where="kind", fix=f"one of {', '.join(TILINGS)}")
    side, step = TILINGS[kind]
    if window is not None:
        side, step = window, window
    step = step if stride is None else stride
    if side and not 0 < step <= side:
        raise ConfigError(
            f"tiles of {side} px cannot have a step of {step} px", where="stride", fix=f"choose 1 to {side}"
        )
    return side, step


def _unpacked_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.unpacked")


def remove_unpacked(out: Path) -> None:
    """Remove what :func:`unpacked_source` unpacked for a folder that is finished."""
    shutil.rmtree(_unpacked_folder(out), ignore_errors=True)


def unpacked_source(source: Path, out: Path) -> Path:
    """Return the folder of a source; archives are unpacked next to the result until it is finished.

    Args:
        source: A folder, an archive, or a folder of archives.
        out: The folder that is made of it.

    Raises:
        DataError: There is no such source, or an archive is broken or unsafe.
    """
    if not source.exists():
        raise DataError("there is no such folder or archive", where=source, fix="check the path")
    inside = sorted(path for path in source.rglob("*") if is_archive(path)) if source.is_dir() else [source]
    files = [path for path in source.iterdir() if path.is_dir()] if source.is_dir() else []
    if source.is_dir() and (not inside or files):
        return source
    folder = _unpacked_folder(out)
    for archive in inside:
        if not is_archive(archive):
            raise DataError(
                "neither a folder nor an archive", where=archive, fix="give a folder, a zip or a tar file"
            )
        stamp = f"{archive.stat().st_size} {archive.stat().st_mtime_ns}"
        marker = folder / f".{archive.name}.done"
        if not marker.is_file() or marker.read_text() != stamp:
            unpack(archive, folder)
            marker.write_text(stamp)
    parts = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return parts[0] if len(parts) == 1 and parts[0].is_dir() and len(inside) == 1 else folder


def _staging(out: Path, parameters: Mapping[str, Any]) -> Path:
    """Return the folder that a run fills; what an interrupted run with the same parameters wrote stays."""
    staging, record = out.with_name(f".{out.name}.partial"), json.dumps(parameters, sort_keys=True)
    file = staging / "parameters.json"
    if staging.exists() and not (file.is_file() and file.read_text() == record):
        shutil.rmtree(staging)
    (staging / ".done").mkdir(parents=True, exist_ok=True)
    file.write_text(record)
    return staging


def _write_split(
    kind: str, split: SplitData, staging: Path, side: int, step: int, workers: int
) -> list[tuple[int, bool, DataError | None]]:
    """Write the tiles of a split; return the outcome of each item, with errors also in the split's report."""
    names = _names(split.items)
    jobs = list(zip(names, split.items, strict=True))
    write = partial(_write_item, kind, split, staging, side, step)
    outcomes = run_jobs(write, jobs, workers=workers, title=f"preparing {split.name}")
    for item, (_, _, error) in zip(split.items, outcomes, strict=True):
        if error is not None:
            split.report.images -= 1
            split.report.error("broken images and label maps", error, item.images[0])
    return outcomes


def _names(items: list[Item]) -> list[str]:
    """Return a name for each item of a split: its stem, after those of its folders where two share it."""
    names = [item.name for item in items]
    for depth in (2, 3):
        twice = {name for name, count in Counter(names).items() if count > 1}
        names = [
            "_".join([*Path(item.images[0]).parts[-depth - 1 : -2], item.name]) if name in twice else name
            for name, item in zip(names, items, strict=True)
        ]
    return names


def _land_cover(item: Item, change: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """Return SECOND's land cover 0 to 6 of both dates; change is where it is given, else what is classed.

    Raises:
        DataError: A map is missing or broken, or the maps disagree on what changed.
    """
    palette = as_palette(_SECOND_PALETTE)
    image, covers = Path(item.images[0]), {}
    for folder in _COVERS:
        found = read_label_image(image.parent.parent / folder / image.name)
        covers[folder], bad = decode_mask(found, palette, reduce_zero_label=False)
        if bad.any():
            raise unknown_label_error(found, bad, palette, False)
    one, two = covers.values()
    if one.shape != two.shape or ((one > 0) != (two > 0)).any():
        raise DataError("the land cover maps of the two dates disagree on what changed", where=image)
    return {**covers, "label": (one > 0).astype(np.uint8) if change is None else change}


def _write_item(
    kind: str, split: SplitData, staging: Path, side: int, step: int, job: tuple[str, Item]
) -> tuple[int, bool, DataError | None]:
    """Write the tiles of one item; return their count, whether they were there, and the error."""
    name, item = job
    marker = staging / ".done" / f"{split.name}__{name}"
    if marker.is_file():
        return int(marker.read_text()), True, None
    try:
        found = split.label_map(item)
        maps = {} if found is None else {"label": found[0]}
        if kind == "second":
            maps |= _land_cover(item, maps.get("label"))
        count = sum(1 for _ in _write_tiles(split, staging, name, item, maps, side, step, kind == "second"))
    except DataError as error:
        return 0, False, error
    marker.write_text(str(count))
    return count, False, None


def _write_tiles(
    split: SplitData,
    staging: Path,
    name: str,
    item: Item,
    maps: Mapping[str, NDArray[Any]],
    side: int,
    step: int,
    semantic: bool,
) -> Iterator[None]:
    readers = [RasterReader(path) for path in item.images]
    try:
        height, width = readers[0].height, readers[0].width
        for labels in maps.values():
            if labels.shape != (height, width):
                what = (
                    f"the label map is {labels.shape[1]} x {labels.shape[0]} px, its image {width} x {height}"
                )
                raise DataError(what, where=item.label or item.images[0], fix="replace one of the two")
        windows = window_grid(height, width, side, side - step) if side else [Window(0, 0, width, height)]
        folders = [staging / "img_dir" / split.name]
        if len(readers) == 2:
            folders = [
                staging / split.name / part for part in (_SECOND_FOLDERS if semantic else _PAIR_FOLDERS)
            ]
        for tile in windows:
            x, y = tile.left, tile.top
            whole = (tile.width, tile.height) == (width, height)
            stem = name if whole else f"{name}_{x}_{y}_{x + tile.width}_{y + tile.height}"
            for folder, reader in zip(folders, readers, strict=True):
                _write_image(folder, stem, reader.read(tile))
            for kind, labels in maps.items():
                part = np.ascontiguousarray(labels[y : y + tile.height, x : x + tile.width])
                place = staging / split.name / kind if len(readers) == 2 else staging / "ann_dir" / split.name
                _write_labels(split, place, stem, part, pair=len(readers) == 2, semantic=semantic)
            yield
    finally:
        for reader in readers:
            reader.close()


def _write_image(folder: Path, stem: str, pixels: NDArray[Any]) -> None:
    """Write pixels as PNG where that holds them, else as TIFF."""
    folder.mkdir(parents=True, exist_ok=True)
    if pixels.shape[2] in (1, 3) and pixels.dtype in (np.uint8, np.uint16):
        if not cv2.imwrite(str(folder / f"{stem}.png"), pixels[..., ::-1]):
            raise DataError(
                "cannot write the tile", where=folder / stem, fix="check free space and permissions"
            )
        return
    tifffile.imwrite(
        folder / f"{stem}.tif", pixels, photometric="minisblack", planarconfig="contig", compression="zlib"
    )


def _write_labels(
    split: SplitData, folder: Path, stem: str, labels: NDArray[Any], *, pair: bool, semantic: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stem}.png"
    if semantic and folder.name in _COVERS:
        write_indexed_png(labels.astype(np.uint8), _SECOND_PALETTE, file)
    elif semantic:
        write_indexed_png((labels > 0).astype(np.uint8), ((0, 0, 0), (255, 255, 255)), file)
    elif pair and len(split.classes) == 2:
        write_grey_png((labels == 1).astype(np.uint8) * 255, file)
    else:
        write_indexed_png(labels.astype(np.uint8), split.palette, file)
