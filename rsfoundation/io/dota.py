"""Oriented labels: one labelled box, DOTA's text files, the files of a split, and the names of patches.

:class:`LabelledBox` and :class:`LabelFile` are what every reader of label files returns (DOTA text here,
XML in :mod:`.xml_labels`, YOLO in :mod:`.yolo`). Data sets turn them into an ``AnnotationTable``
(:mod:`rsfoundation.datasets.oriented.annotations`), which is the only form they keep.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport

MALFORMED_LINES = "malformed label lines"  # kind in reports
_HEADER_KEYS = ("imagesource", "gsd", "acquisition dates")  # the last one: some files of version 2.0
_EXPECTED = "expected 'x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]'"
_FIX_LINE = f"correct the line, or leave such lines out with {SKIPPING}"
_FIX_YOLO = (
    "read the folder with type='rsfoundation.YOLOOBBDataset', or convert it: "
    "`rsf prepare labels yolo ROOT --split train --to dota -o OUT`"
)
_FIX_FRACTIONS = "multiply x by the width of the image and y by its height"


@dataclass(frozen=True)
class LabelledBox:
    """One labelled object.

    Attributes:
        quad: ``x1 y1 x2 y2 x3 y3 x4 y4`` in image pixels, clockwise.
        name: Class name as written.
        difficulty: 0 easy, 1 difficult, 2 truncated by a window border (only in tiled data).
        line: One-based line number in its file; 0 when it comes from no file.
    """

    quad: tuple[float, ...]
    name: str
    difficulty: int = 0
    line: int = 0


@dataclass(frozen=True)
class LabelFile:
    """The content of one label file; malformed objects are left out and counted in a report.

    Attributes:
        objects: The objects in file order.
        source: Value of the ``imagesource`` header, if there is one.
        gsd: Ground sampling distance in metres; ``None`` when absent or ``null``.
        size: Width and height of the image in pixels, in formats that state them.
    """

    objects: tuple[LabelledBox, ...]
    source: str | None = None
    gsd: float | None = None
    size: tuple[int, int] | None = None


class _OtherFormat(ValueError):
    """A line that is well formed in another format; the second argument is the fix."""


def read_dota_txt(path: str | Path, report: DatasetReport | None = None) -> LabelFile:
    """Read one label file; an empty file is an image without objects.

    Lines in YOLO-OBB format and coordinates that are fractions of the image are malformed, too: read as
    pixels they would be boxes without area in the corner of the image.

    Args:
        path: The label file; CRLF line ends and a byte-order mark are accepted.
        report: Takes the malformed lines, which are left out; without one they raise.

    Raises:
        DataError: The file is missing or not text; without a report, a line is malformed.
    """
    path = Path(path)
    found = DatasetReport() if report is None else report
    header: dict[str, str] = {}
    objects: list[LabelledBox] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() in _HEADER_KEYS:
            header[key.strip().lower()] = value.strip()
            continue
        try:
            objects.append(_parse_object(line, number))
        except ValueError as error:
            fix = error.args[1] if isinstance(error, _OtherFormat) else _FIX_LINE
            what = f"malformed label line: {error.args[0]}; {_EXPECTED}"
            found.error(MALFORMED_LINES, DataError(what, where=f"{path}:{number}", fix=fix), path)
    if report is None:
        found.enforce("fail")
    return LabelFile(tuple(objects), header.get("imagesource"), _parse_gsd(header.get("gsd")))


def write_dota_txt(
    path: str | Path,
    objects: Iterable[LabelledBox],
    *,
    source: str | None = None,
    gsd: float | None = None,
) -> None:
    """Write one label file.

    Args:
        path: The file.
        objects: The objects; coordinates are written to a hundredth of a pixel.
        source: Of the header line ``imagesource``, which is written where it is given.
        gsd: Of the header line ``gsd``, likewise.

    Raises:
        DataError: A class name has blanks, which the format cannot hold.
    """
    lines = [f"imagesource:{source}"] if source is not None else []
    lines += [f"gsd:{gsd}"] if gsd is not None else []
    for item in objects:
        if len(item.name.split()) != 1:
            raise DataError(
                f"class name {item.name!r} has blanks; the fields of a DOTA label file end at blanks",
                where=path,
                fix="write '-' or '_' for the blank",
            )
        coordinates = " ".join(_number(value) for value in item.quad)
        lines.append(f"{coordinates} {item.name} {item.difficulty}")
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without blanks at their ends.

    Raises:
        DataError: The file is missing or not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("label file not found", where=path, fix="check the label folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"label file cannot be read as text: {error}",
            where=path,
            fix=f"replace it, or leave its image out with {SKIPPING}",
        ) from error
    return [line.strip() for line in text.splitlines()]


def _parse_object(line: str, number: int) -> LabelledBox:
    fields = line.split()
    if len(fields) not in (9, 10):
        raise ValueError(f"found {len(fields)} fields in {line[:80]!r}")
    if is_yolo_obb(fields):
        raise _OtherFormat(
            f"{line[:80]!r} is in YOLO-OBB format: a class number and eight fractions", _FIX_YOLO
        )
    try:
        quad = tuple(float(field) for field in fields[:8])
    except ValueError:
        raise ValueError(f"a coordinate is not a number in {line[:80]!r}") from None
    if not all(isfinite(value) for value in quad):
        raise ValueError(f"a coordinate is not finite in {line[:80]!r}")
    if all(0 <= value <= 1 for value in quad) and not all(value.is_integer() for value in quad):
        raise _OtherFormat(
            f"the coordinates in {line[:80]!r} are fractions of the image, not pixels", _FIX_FRACTIONS
        )
    difficulty = fields[9] if len(fields) == 10 else "0"
    if not difficulty.isdecimal():
        raise ValueError(f"difficulty {difficulty!r} is not a whole number")
    return LabelledBox(quad, fields[8], int(difficulty), number)


def is_yolo_obb(fields: Sequence[str]) -> bool:
    """Return whether a line is one of YOLO-OBB: a class number, then eight numbers between 0 and 1.

    Ultralytics' own converters write corners a little beyond the image: to a tenth of it is accepted.
    """
    if len(fields) != 9 or not fields[0].isdecimal():
        return False
    try:
        values = [float(field) for field in fields[1:]]
    except ValueError:
        return False
    return all(-0.1 <= value <= 1.1 for value in values) and not all(value.is_integer() for value in values)


def _parse_gsd(value: str | None) -> float | None:
    """Return metres per pixel; files write ``null``, ``None`` or nothing where it is unknown."""
    try:
        gsd = float(value or "nan")
    except ValueError:
        return None
    return gsd if isfinite(gsd) else None


def _number(value: float) -> str:
    """Write a coordinate to a hundredth of a pixel without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


_PATCH = re.compile(r"(?P<image>.+)__(?P<window>\d+)__(?P<x>\d+)___(?P<y>\d+)")


@dataclass(frozen=True)
class PatchName:
    """The place of a patch in its image: DOTA's ``<image>__<window>__<x>___<y>``.

    Attributes:
        image: Name of the image it was cut from.
        window: Side of the patch in pixels of that image.
        x: Left edge in that image.
        y: Upper edge in that image.
    """

    image: str
    window: int
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.image}__{self.window}__{self.x}___{self.y}"


def parse_patch_name(name: str) -> PatchName | None:
    """Return the parts of a name without suffix; ``None`` when it is not that of a patch.

    A window of 1 is the scale that DOTA's own tool writes there; the side is not known then.
    """
    match = _PATCH.fullmatch(name)
    if match is None:
        return None
    return PatchName(match["image"], int(match["window"]), int(match["x"]), int(match["y"]))


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LABEL_FOLDERS = ("labelTxt", "annfiles")  # as distributed, and as tiled
_LAYOUT = (
    "expected <root>/<split>/images/*.png and <root>/<split>/labelTxt/*.txt "
    "(tiled data: annfiles/*.txt; FAIR1M: labelXml/*.xml)"
)
_FIX = (
    "point at a folder of that layout: <root>/<split> for `rsf prepare`, data_root and split in a config "
    "(data/README.md has the command that makes it for each data set; `rsf prepare toy` draws the toy scenes)"
)


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split.

    Attributes:
        images: Every image, in the order of the data set.
        labels: Label file of each image; ``None`` for an image without one.
        labelled: Whether the split has a label folder at all.
        orphans: Label files without an image.
    """

    images: tuple[Path, ...]
    labels: tuple[Path | None, ...]
    labelled: bool
    orphans: tuple[Path, ...] = ()

    @property
    def bare(self) -> list[Path]:
        """Images without a label file in a split that has labels."""
        pairs = zip(self.images, self.labels, strict=True)
        return [image for image, label in pairs if label is None] if self.labelled else []


def find_split(
    root: Path, split: str, label_dir: str | None = None, version: str | None = None
) -> SplitFiles:
    """List the images and labels of a split in name order.

    Args:
        root: Folder of the data set.
        split: Folder of the split below it; may be empty.
        label_dir: Label folder below the split; found by its usual names when ``None``.
        version: Of DOTA. A folder of labels with this version in its name goes before ``labelTxt``.

    Raises:
        DataError: The folder or its images are missing, or two images share a stem.
    """
    folder = root / split
    for needed in (root, folder):
        if not needed.is_dir():
            raise DataError(f"data folder not found: {needed}; {_LAYOUT}", where=needed, fix=_FIX)
    images = list_images(folder / "images")
    label_folder = find_label_folder(folder, label_dir, version)
    return pair_up(images, sorted(label_folder.glob("*.txt")) if label_folder else None)


def pair_up(images: Sequence[Path], labels: Iterable[Path] | None) -> SplitFiles:
    """Give every image the label file of its stem.

    Args:
        images: The images.
        labels: The label files; ``None`` for a split without labels.
    """
    if labels is None:
        return SplitFiles(tuple(images), (None,) * len(images), False)
    files = {path.stem: path for path in labels}
    mine = tuple(files.pop(path.stem, None) for path in images)
    return SplitFiles(tuple(images), mine, True, tuple(files.values()))


def find_label(image: Path) -> Path | None:
    """Return the label file of ``<split>/images/<name>.<suffix>``, or ``None`` where there is none."""
    folder = find_label_folder(image.parent.parent)
    label = folder / f"{image.stem}.txt" if folder and image.parent.name == "images" else None
    return label if label and label.is_file() else None


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return the images of a folder in name order.

    Raises:
        DataError: The folder is missing or has none, or two share a stem.
    """
    if not folder.is_dir():
        raise DataError(f"data folder not found: {folder}; {_LAYOUT}", where=folder, fix=_FIX)
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        known = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"no image in the folder; {_LAYOUT}; known suffixes: {known}", where=folder, fix=_FIX)
    for first, second in pairwise(images):
        if first.stem == second.stem:
            raise DataError(
                f"{first.name} and {second.name} would share one label file",
                where=folder,
                fix="keep one of the two",
            )
    return tuple(images)


def find_label_folder(folder: Path, label_dir: str | None = None, version: str | None = None) -> Path | None:
    """Return the label folder of a split, or ``None`` where there is none.

    Args:
        folder: Of the split.
        label_dir: Its name below the split; found by the usual names when ``None``.
        version: Of DOTA. A folder with this version in its name goes before the usual ones.

    Raises:
        DataError: There is no folder ``label_dir``.
    """
    if label_dir is None:
        usual = [folder / name for name in LABEL_FOLDERS]
        places = [*version_folders(folder, version), *usual] if version else usual
        return next((place for place in places if place.is_dir()), None)
    if not (folder / label_dir).is_dir():
        raise DataError(f"label folder {label_dir!r} not found", where=folder / label_dir, fix=_FIX)
    return folder / label_dir


def version_folders(folder: Path, version: str) -> list[Path]:
    """Return where the known mirrors have the labels of one version of DOTA below a split.

    Args:
        folder: Of the split.
        version: Of DOTA, such as ``1.5``.
    """
    outer = f"labelTxt-v{version}"
    names = (
        f"{outer}/labelTxt",
        f"{outer}/DOTA-v{version}_{folder.name}",
        outer,
        f"annotations/version{version}",
    )
    return [folder / name for name in names]
