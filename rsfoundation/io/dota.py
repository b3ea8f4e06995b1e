"""Finding the images and label files of one DOTA split on disk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, Policy

_HEADER_KEYS = ("imagesource", "gsd", "acquisition dates")  # the last one: some files of version 2.0
_EXPECTED = "expected 'x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]'"


@dataclass(frozen=True)
class DotaObject:
    """One labelled object.

    Attributes:
        quad: ``x1 y1 x2 y2 x3 y3 x4 y4`` in image pixels, clockwise.
        name: Class name as written.
        difficulty: 0 easy, 1 difficult, 2 cut by a window border (only in tiled data).
        line: One-based line number in its file; 0 when it comes from no file.
    """

    quad: tuple[float, ...]
    name: str
    difficulty: int = 0
    line: int = 0


@dataclass(frozen=True)
class DotaLabel:
    """The content of one label file.

    Attributes:
        objects: The objects in file order.
        source: Value of the ``imagesource`` header, if there is one.
        gsd: Ground sampling distance in metres; ``None`` when absent or ``null``.
        skipped: One sentence for each malformed line left out under the policy ``skip``.
        size: Width and height of the image in pixels, in formats that state them.
    """

    objects: tuple[DotaObject, ...]
    source: str | None = None
    gsd: float | None = None
    skipped: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


def read_dota_txt(path: str | Path, policy: Policy = "fail") -> DotaLabel:
    """Read one label file; an empty file is an image without objects.

    Args:
        path: The label file; CRLF line ends and a byte-order mark are accepted.
        policy: What a malformed line does: ``fail`` raises, ``skip`` leaves it out and reports it.

    Raises:
        DataError: The file is missing or not text, or a line is malformed under ``fail``.
    """
    path = Path(path)
    header: dict[str, str] = {}
    objects: list[DotaObject] = []
    skipped: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line:
            continue
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() in _HEADER_KEYS:
            header[key.strip().lower()] = value.strip()
            continue
        try:
            objects.append(_parse_object(line, number))
        except ValueError as error:
            if policy == "fail":
                raise DataError(
                    f"malformed label line: {error}; {_EXPECTED}",
                    where=f"{path}:{number}",
                    fix=f"mend the line, or leave such lines out with {SKIPPING}",
                ) from None
            skipped.append(f"{path}:{number}: {error}")
    return DotaLabel(tuple(objects), header.get("imagesource"), _parse_gsd(header.get("gsd")), tuple(skipped))


def write_dota_txt(
    path: str | Path,
    objects: Iterable[DotaObject],
    *,
    source: str | None = None,
    gsd: float | None = None,
) -> None:
    """Write one label file; header lines are written for the values given.

    Raises:
        DataError: A class name has blanks, which the format cannot hold.
    """
    lines = [f"imagesource:{source}"] if source is not None else []
    lines += [f"gsd:{gsd}"] if gsd is not None else []
    for item in objects:
        if len(item.name.split()) != 1:
            raise DataError(
                f"class name {item.name!r} cannot stand in a DOTA label file, whose fields end at blanks",
                where=path,
                fix="write '-' or '_' for the blank",
            )
        coordinates = " ".join(_number(value) for value in item.quad)
        lines.append(f"{coordinates} {item.name} {item.difficulty}")
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("label file not found", where=path, fix="check the label folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"label file cannot be read as text: {error}", where=path) from error
    return [line.strip() for line in text.splitlines()]


def _parse_object(line: str, number: int) -> DotaObject:
    fields = line.split()
    if len(fields) not in (9, 10):
        raise ValueError(f"found {len(fields)} fields in {line[:80]!r}")
    try:
        quad = tuple(float(field) for field in fields[:8])
    except ValueError:
        raise ValueError(f"a coordinate is not a number in {line[:80]!r}") from None
    if not all(isfinite(value) for value in quad):
        raise ValueError(f"a coordinate is not finite in {line[:80]!r}")
    difficulty = fields[9] if len(fields) == 10 else "0"
    if not difficulty.isdecimal():
        raise ValueError(f"difficulty {difficulty!r} is not a whole number")
    return DotaObject(quad, fields[8], int(difficulty), number)


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
    """The files of one split, in name order.

    Attributes:
        images: Every image.
        labels: Label file of each image; ``None`` for an image without one.
        labelled: Whether the split has a label folder at all.
        orphans: Label files without an image.
    """

    images: tuple[Path, ...]
    labels: tuple[Path | None, ...]
    labelled: bool
    orphans: tuple[Path, ...]


def find_split(
    root: Path, split: str, label_dir: str | None = None, version: str | None = None
) -> SplitFiles:
    """List the images and labels of a split, whatever order the file system has them in.

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


def pair_up(images: Sequence[Path], labels: Sequence[Path] | None) -> SplitFiles:
    """Give every image the label file of its stem; ``None`` for a split without labels."""
    if labels is None:
        return SplitFiles(tuple(images), (None,) * len(images), False, ())
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
    """Return where the known mirrors have the labels of one version of DOTA below a split."""
    outer = f"labelTxt-v{version}"
    names = (
        f"{outer}/labelTxt",
        f"{outer}/DOTA-v{version}_{folder.name}",
        outer,
        f"annotations/version{version}",
    )
    return [folder / name for name in names]
