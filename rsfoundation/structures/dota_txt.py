"""DOTA label files: reading what is really found in them, and writing them.

A file has up to two header lines (``imagesource:GoogleEarth``, ``gsd:0.21`` or ``gsd:null``) and one
object per line: eight corner coordinates, a class name without blanks, and a difficulty (0, 1 or 2)
that some files leave out. Coordinates are pixels of the image the file belongs to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

from rsfoundation.errors import DataError

Policy = Literal["fail", "skip"]
SKIPPING = "--on-error skip (on_error='skip' in a config)"  # how a user asks for the second, in cures

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
                    cure=f"mend the line, or leave such lines out with {SKIPPING}",
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
                cure="write '-' or '_' for the blank",
            )
        coordinates = " ".join(_number(value) for value in item.quad)
        lines.append(f"{coordinates} {item.name} {item.difficulty}")
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("label file not found", where=path, cure="check the label folder") from None
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
