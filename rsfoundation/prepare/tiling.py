"""Tiling: images with labels become a folder of patches, written or virtual.

Patches are named ``<image>__<window>__<x>___<y>.png``. Labels are in ``annfiles/`` without header, in pixels
of the patch. Objects that the border of a window truncates get difficulty 2. The part of a window beyond its
image is padded. A virtual folder holds an index only: data sets read the windows when they load them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    read_manifest,
    refuse_foreign,
    refuse_own_sources,
    staging_folder,
)
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import SKIPPING, DatasetReport, Policy
from rsfoundation.datasets.oriented.annotations import (
    NO_LABEL,
    ORPHANS,
    UNREADABLE_IMAGES,
    UNREADABLE_LABELS,
    AnnotationTable,
    ImageLabels,
    read_labels,
    report_unpaired,
)
from rsfoundation.datasets.oriented.classes import DotaVersion
from rsfoundation.datasets.oriented.patch_index import INDEX, PatchIndex, WatchedFiles, write_index
from rsfoundation.geometry.boxes import is_outside
from rsfoundation.geometry.tiling import DOTA_TILINGS, FAIR1M_TILINGS, TilingSettings
from rsfoundation.geometry.windows import Placement, Tile, object_areas, place_objects, tiles_of
from rsfoundation.io.dota import (
    LabelFile,
    PatchName,
    find_label_folder,
    find_split,
    read_dota_txt,
    version_folders,
    write_dota_txt,
)
from rsfoundation.io.loading import ImageLoading, LoadedImage, read_windows
from rsfoundation.io.png import holds, write_picture
from rsfoundation.io.raster_formats import reordered
from rsfoundation.io.rasters import image_size
from rsfoundation.io.xml_labels import find_fair1m, image_names, read_fair1m_xml
from rsfoundation.prepare.sources import Source, Sources

TRUNCATED_DIFFICULTY = 2
LOST = "objects in no patch"  # kinds in reports
OUTSIDE = "objects beyond their image"
WITHOUT_AREA = "objects without area"
_STORED = ("patches", "empty_patches", "placed", "truncated")  # counts that a manifest holds
_SMALL = 2**25  # pixels: larger images are tiled one at a time, and read by rows of windows
_DECODED = 3 * _SMALL  # bytes
_VERSION = 2  # raised when the same input gives other files


@dataclass(frozen=True)
class TilingOptions:
    """How sources are tiled.

    Attributes:
        tiling: Windows and thresholds.
        on_error: ``fail`` reads all labels and the heads of all images, then stops with one error for
            everything that is broken or missing; an image that breaks while it is decoded stops at its
            turn. ``skip`` leaves broken images and labels out and counts them.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only. Images are decoded under ``skip`` alone, to know which are broken.
        loading: Bands and value range of the patches, which are PNG files of one or three bands.
    """

    tiling: TilingSettings
    on_error: Policy = "fail"
    workers: int = 2
    virtual: bool = False
    loading: ImageLoading = field(default_factory=ImageLoading)


@dataclass(frozen=True)
class TilingResult:
    """The folder that was made.

    Attributes:
        out: Folder with ``images`` and, where the source is labelled, ``annfiles``; with ``index.npz``
            alone for a virtual one.
        report: Images and objects of the sources, and everything that was left out.
        patches: Patches written, or windows to be read later.
        empty_patches: Those without an object.
        placed: Labels written; an object may be in several patches.
        truncated: Those of them that a border truncates (difficulty 2).
        reused: The folder existed already, made of the same files in the same way.
    """

    out: Path
    report: DatasetReport
    patches: int = 0
    empty_patches: int = 0
    placed: int = 0
    truncated: int = 0
    reused: bool = False

    def counts(self) -> dict[str, int]:
        """Return every count for a table, those left out by kind; usual kinds also where 0."""
        usual = dict.fromkeys((LOST, OUTSIDE, WITHOUT_AREA, ORPHANS), 0)
        return {
            "images": self.report.images,
            "objects": self.report.objects or 0,
            "patches": self.patches,
            "empty patches": self.empty_patches,
            "placed": self.placed,
            "truncated": self.truncated,
            **usual,
            **self.report.counts,
        }


@dataclass(frozen=True)
class ImagePatches:
    """The patches of one image.

    Attributes:
        source: The image.
        area: Of the image, in pixels.
        table: Its patches as images, with their objects in pixels of the patch; empty where the image or
            its labels are broken.
        truncated: Objects that a border truncates.
        report: What was left out of the image.
    """

    source: Source
    table: AnnotationTable
    area: int = 0
    truncated: int = 0
    report: DatasetReport = field(default_factory=DatasetReport)


_NO_PATCHES = AnnotationTable.build(())


def tile_sources(maker: str, sources: Sources, out: Path, options: TilingOptions) -> TilingResult:
    """Tile images into a folder that appears when it is complete.

    It is left alone when the same files were tiled in the same way before, and replaced when they were
    not. A row of windows of each image being written is in memory; of small plain images the whole.

    Args:
        maker: Name in the manifest; a folder of another maker is not replaced.
        sources: The images.
        out: Folder to make.
        options: How.

    Raises:
        DataError: A source is broken, or all are under ``skip``; two have one name, some have labels and
            some none; ``out`` holds a source or something else, or cannot be written.
        ConfigError: The settings make no windows.
    """
    out = Path(out)
    tiles_of(options.tiling, 1, 1)  # refuses impossible settings before anything is read
    sources.check()
    refuse_own_sources(out, (source.image for source in sources.images))
    parameters = {
        "version": _VERSION,
        "cut": options.tiling.record(),
        "on_error": options.on_error,
        "files": sources.fingerprint(),
        **({"virtual": True} if options.virtual else {}),
        **({"loading": repr(options.loading)} if options.loading != ImageLoading() else {}),
    }
    with locked(out.parent):
        refuse_foreign(out, maker)
        manifest = read_manifest(out)
        if manifest is not None and manifest.parameters == parameters:
            if not (out / INDEX).is_file():  # made before there were indexes
                write_index(out, index_of_folder(out))
            return _from_manifest(out, manifest.content)
        with staging_folder(out) as staging:
            result = _fill(sources, staging, out, options)
            content = {name: getattr(result, name) for name in _STORED} | {"report": result.report.to_json()}
            publish(staging, out, Manifest(maker, parameters, content))
    return result


def _from_manifest(out: Path, content: dict[str, Any]) -> TilingResult:
    counts = {name: content.get(name, 0) for name in _STORED}
    return TilingResult(out, DatasetReport.from_json(content.get("report", {})), **counts, reused=True)


def _fill(sources: Sources, staging: Path, out: Path, options: TilingOptions) -> TilingResult:
    """Write patches and index, or the index alone, to ``staging``."""
    images = run_jobs(
        partial(patches_of, options.tiling),
        sources.images,
        workers=options.workers,
        title="reading labels",
    )
    _total(sources, images).enforce(options.on_error)
    if options.virtual and options.on_error == "skip":
        check = partial(_checked, options.loading)
        images = run_jobs(check, images, workers=1, title="decoding images")  # one in memory at a time
    elif not options.virtual:
        for name in ("images", "annfiles") if sources.labelled else ("images",):
            (staging / name).mkdir()
        images = _write_images(staging, options, images)
    result = _result(sources, images, out)
    made = [one for one in images if len(one.table)]
    write_index(staging, index_of_images(staging, made) if options.virtual else index_of_folder(staging))
    return result


def _total(sources: Sources, images: Iterable[ImagePatches]) -> DatasetReport:
    total = DatasetReport()
    total.note(ORPHANS, [path.name for path in sources.orphans])
    for one in images:
        total.merge(one.report)
    return total


def _result(sources: Sources, images: Sequence[ImagePatches], out: Path) -> TilingResult:
    """Add up all images and log them.

    Raises:
        DataError: Every image was left out.
    """
    report = _total(sources, images)
    made = [one for one in images if len(one.table)]
    if not made:
        raise DataError(
            f"no image is left to tile: left out {report.describe()}",
            where=out,
            fix="repair the files; --on-error fail (on_error='fail' in Python) names the first places",
        )
    if not sources.labelled:
        report.warn("no label folder was found: the patches are those of a test split")
    report.images, report.objects = len(made), sum(one.report.objects or 0 for one in made)
    report.log(str(out))
    counts = [np.diff(one.table.ends, prepend=0) for one in made]
    result = TilingResult(
        out,
        report,
        patches=sum(map(len, counts)),
        empty_patches=sum(int((count == 0).sum()) for count in counts),
        placed=sum(int(count.sum()) for count in counts),
        truncated=sum(one.truncated for one in made),
    )
    MMLogger.get_current_instance().info("%s: %d patches, %d labels", out, result.patches, result.placed)
    return result


def patches_of(tiling: TilingSettings, source: Source) -> ImagePatches:
    """Return the windows of one image and their objects, by its label file and the head of the image file.

    Args:
        tiling: Windows and thresholds.
        source: The image.

    Returns:
        Its patches; none, with the error in the report, where the image or its label file is broken.
    """
    report = DatasetReport()
    kind, broken = UNREADABLE_LABELS, source.label or source.image
    try:
        if source.label is None and source.labelled:
            kind = NO_LABEL
            raise DataError(
                "the image has no label file",
                where=source.image,
                fix="add the label file, with no object where the image shows none, or leave such images out "
                f"with {SKIPPING}",
            )
        label = LabelFile(()) if source.label is None else source.read(source.label, report)
        kind, broken = UNREADABLE_IMAGES, source.image
        width, height = image_size(source.image)
    except DataError as error:
        report.error(kind, error, broken)
        return ImagePatches(source, _NO_PATCHES, report=report)
    report.objects = len(label.objects)
    tiles = tiles_of(tiling, width, height)
    objects = _inside(label, source, (width, height), report)
    placements = place_objects(objects.quads, tiles, tiling.min_object_share)
    placed = {index for placement in placements for index in placement.index}
    _note_objects(report, LOST, source, len(objects.quads) - len(placed))
    truncated = sum(sum(placement.truncated) for placement in placements)
    patches = _in_windows(source, objects, tiles, placements)
    return ImagePatches(source, patches, width * height, truncated, report)


def _inside(
    label: LabelFile, source: Source, size: tuple[int, int], report: DatasetReport
) -> AnnotationTable:
    """Return the objects that have an area within reach of the image, as data sets do.

    The padding of a window larger than the image would hold the others.
    """
    quads = np.array([item.quad for item in label.objects], dtype=np.float64).reshape(-1, 8)
    flat = object_areas(quads) == 0
    outside = ~flat & is_outside(quads, size)
    _note_objects(report, WITHOUT_AREA, source, int(flat.sum()))
    _note_objects(report, OUTSIDE, source, int(outside.sum()))
    kept = [item for item, gone in zip(label.objects, flat | outside, strict=True) if not gone]
    return AnnotationTable.build([ImageLabels(source.image, kept, source.label, size)])


def _note_objects(report: DatasetReport, kind: str, source: Source, count: int) -> None:
    report.note(kind, [(source.label or source.image).name] * count)


def _in_windows(
    source: Source, objects: AnnotationTable, tiles: Sequence[Tile], placements: Sequence[Placement]
) -> AnnotationTable:
    """Return the objects of each window in its pixels, to a hundredth as label files hold them."""
    counts = [len(placement.index) for placement in placements]
    rows = np.array([row for placement in placements for row in placement.index], dtype=np.int64)
    truncated = np.array([value for placement in placements for value in placement.truncated], dtype=np.bool_)
    windows = np.array([(tile.x, tile.y, tile.size) for tile in tiles], dtype=np.int64)
    corner = np.repeat(windows[:, :2], counts, axis=0)
    names = [str(PatchName(source.name, tile.size, tile.x, tile.y)) for tile in tiles]
    return replace(
        objects,
        names=np.array(names, dtype=np.str_),
        paths=np.full(len(tiles), str(source.image)),
        label_files=np.full(len(tiles), str(source.label or "")),
        sizes=windows[:, [2, 2]],
        windows=windows,
        ends=np.cumsum(counts, dtype=np.int64),
        quads=np.round(objects.quads[rows] - np.tile(corner, 4), 2),
        labels=objects.labels[rows],
        difficulties=np.where(truncated, TRUNCATED_DIFFICULTY, objects.difficulties[rows]).astype(np.int32),
        ignored=objects.ignored[rows],
        lines=objects.lines[rows],
        short_sides=objects.short_sides[rows],
        crossed=objects.crossed[rows],
    )


def _broken(one: ImagePatches, error: DataError) -> ImagePatches:
    """Return an image without its patches: its pixels cannot be decoded."""
    report = DatasetReport()
    report.merge(one.report)
    report.error(UNREADABLE_IMAGES, error, one.source.image)
    return ImagePatches(one.source, _NO_PATCHES, report=report)


def _checked(loading: ImageLoading, one: ImagePatches) -> ImagePatches:
    """Decode every window of an image; return it without patches where one is broken."""
    try:
        if len(one.table):
            _open_whole(loading, one)
    except DataError as error:
        return _broken(one, error)
    return one


def _open_whole(loading: ImageLoading, one: ImagePatches) -> LoadedImage:
    """Open an image and read each of its windows once, so that none fails later.

    Raises:
        DataError: The image is broken.
    """
    image = loading.open(one.source.image, decode_limit=_DECODED)
    for _ in read_windows(image, one.table.windows):
        pass
    return image


def _write_images(folder: Path, options: TilingOptions, images: Sequence[ImagePatches]) -> list[ImagePatches]:
    """Write the patches of all images; return those without patches that are broken under ``skip``.

    Small images are written several at a time. Of a large one the patches are.
    """
    small = [one for one in images if one.area <= _SMALL]
    large = [one for one in images if one.area > _SMALL]
    with ThreadPoolExecutor(options.workers) as pool:
        write = partial(_write_patches, folder, options, map)
        made = run_jobs(write, small, workers=options.workers, title="tiling images")
        write = partial(_write_patches, folder, options, pool.map)
        made += run_jobs(write, large, workers=1, title="tiling large images")
    by_source = {one.source.image: one for one in made}
    return [by_source[one.source.image] for one in images]


def _write_patches(
    folder: Path, options: TilingOptions, each: Callable[..., Iterable[None]], one: ImagePatches
) -> ImagePatches:
    """Write the patches of an image; return it without patches where it is broken under ``skip``.

    Args:
        folder: Of the patches.
        options: How they are read.
        each: ``map``, or that of a pool.
        one: The image.

    Raises:
        DataError: Under ``fail``, the image is broken; a patch cannot be written.
    """
    if not len(one.table):
        return one
    if options.on_error == "skip":
        try:
            image = _open_whole(options.loading, one)
        except DataError as error:
            return _broken(one, error)
    else:
        image = options.loading.open(one.source.image, decode_limit=_DECODED)
    save = partial(_save_patch, folder, one)
    with image:
        for rows, pixels in read_windows(image, one.table.windows):
            deque(each(save, rows, pixels), maxlen=0)
    return one


def _save_patch(folder: Path, one: ImagePatches, row: int, pixels: NDArray[Any]) -> None:
    name = one.table.names[row]
    if not holds(pixels):
        raise DataError(
            f"a patch has {pixels.shape[2]} bands of {pixels.dtype}; PNG files hold 1 or 3 of 8 or 16 bit",
            where=one.source.image,
            fix="choose with --bands and --pixel-range, or tile with --virtual",
        )
    blue_first = range(pixels.shape[2])[::-1]
    write_picture(reordered(pixels, blue_first), folder / "images" / f"{name}.png")
    if one.source.labelled:
        write_dota_txt(folder / "annfiles" / f"{name}.txt", one.table.boxes_of(row))


def index_of_folder(folder: Path) -> PatchIndex:
    """Read ``images/`` and ``annfiles/`` (or ``labelTxt/``) of a folder into an index.

    Raises:
        DataError: A label is malformed or missing, or belongs to no image.
    """
    files, report = find_split(folder, ""), DatasetReport()
    report_unpaired(files, report)
    if files.orphans:
        error = DataError(
            f"{len(files.orphans)} label files have no image",
            where=files.orphans[0],
            fix="add or remove files until images and labels pair up",
        )
        report.error(ORPHANS, error, *files.orphans)
    table = read_labels(zip(files.images, files.labels, strict=True), read_dota_txt, report)
    report.enforce("fail")
    sizes = [
        image_size(Path(path)) if size[0] < 0 else size
        for path, size in zip(table.paths.tolist(), table.sizes.tolist(), strict=True)
    ]
    table = replace(table, sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2))
    return PatchIndex(table, WatchedFiles.of(folder, [label for label in files.labels if label is not None]))


def index_of_images(folder: Path, images: Sequence[ImagePatches]) -> PatchIndex:
    """Return the index of a virtual folder, in the order that patch files would have.

    Args:
        folder: The folder.
        images: The patches of one image or more.
    """
    table = AnnotationTable.join([one.table for one in images])
    names = table.names.tolist()
    order = np.array(sorted(range(len(names)), key=lambda row: f"{names[row]}.png"))
    labels = [one.source.label for one in images if one.source.label is not None]
    return PatchIndex(
        table.take(order), WatchedFiles.of(folder, labels, [one.source.image for one in images])
    )


DOTA_MAKER = "rsfoundation prepare dota"


def tile_dota(
    sources: Sequence[Path],
    out: Path,
    *,
    tiling: TilingSettings = DOTA_TILINGS["ss"],
    version: DotaVersion | None = None,
    on_error: Policy = "fail",
    workers: int = 2,
    virtual: bool = False,
    loading: ImageLoading | None = None,
) -> TilingResult:
    """Tile every image of some splits into patches; see :func:`~.tiling.tile_sources`.

    Args:
        sources: Split folders with ``images/`` and, unless it is a test split, ``labelTxt/``.
        out: Folder to make.
        tiling: Windows and thresholds.
        version: Takes a label folder that names this version before ``labelTxt``; where none does, the log
            names the folder that is taken.
        on_error: ``fail`` stops where files or label lines are broken; ``skip`` leaves them out.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets read the windows when they load them.
        loading: Bands and value range of the patches; colours of 8 bit when not given.

    Raises:
        DataError: A source is missing or broken, two images share a name, or ``out`` holds something else.
        ConfigError: The settings make no windows.
    """
    found = [find_split(Path(folder), "", version=version) for folder in sources]
    if version is not None:
        for folder in sources:
            _warn_of_fallback(Path(folder), version)
    material = Sources.of(found, name=lambda image: image.stem)
    return tile_sources(
        DOTA_MAKER,
        material,
        out,
        TilingOptions(tiling, on_error, workers, virtual, loading or ImageLoading()),
    )


def _warn_of_fallback(folder: Path, version: DotaVersion) -> None:
    """Warn where no label folder names the version: the labels may be those of another one."""
    taken, places = find_label_folder(folder, version=version), version_folders(folder, version)
    if taken is not None and taken not in places:
        MMLogger.get_current_instance().warning(
            "%s: no label folder names version %s of DOTA (looked for %s): its labels are taken from %s",
            folder,
            version,
            ", ".join(str(place.relative_to(folder)) for place in places),
            taken.relative_to(folder),
        )


FAIR1M_MAKER = "rsfoundation prepare fair1m"


def tile_fair1m(
    sources: Sequence[Path],
    out: Path,
    *,
    tiling: TilingSettings = FAIR1M_TILINGS["ms"],
    on_error: Policy = "fail",
    workers: int = 2,
    virtual: bool = False,
    loading: ImageLoading | None = None,
) -> TilingResult:
    """Tile every image of some folders into patches; see :func:`~.tiling.tile_sources`.

    Patches have the name of their image (``17.tif``: ``17__1024__0___0.png``), so that results can be mapped
    back; where two parts have an image of one name, that of the part precedes it:
    ``part1_17__1024__0___0.png``.

    Args:
        sources: ``train`` (with ``part1`` and ``part2``, or one of these), ``validation`` or ``test``.
        out: Folder to make.
        tiling: Windows and thresholds.
        on_error: ``fail`` stops where files or objects are broken; ``skip`` leaves them out.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets read the windows when they load them.
        loading: Bands and value range of the patches; colours of 8 bit when not given.

    Raises:
        DataError: A source is missing or broken, or ``out`` is in it or holds something else.
        ConfigError: The settings make no windows.
    """
    for folder in sources:
        _refuse_inside(Path(folder), Path(out))
    parts = [part for folder in sources for part in find_fair1m(Path(folder))]
    material = Sources.of(parts, name=image_names(parts).__getitem__, read=read_fair1m_xml)
    return tile_sources(
        FAIR1M_MAKER,
        material,
        out,
        TilingOptions(tiling, on_error, workers, virtual, loading or ImageLoading()),
    )


def _refuse_inside(source: Path, out: Path) -> None:
    """Refuse a result inside the source: folders with ``images/`` below it are read as its parts."""
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(
            f"the folder to make is in the source {source}, where it would be read as a part of it",
            where=out,
            fix="choose a folder elsewhere",
        )
