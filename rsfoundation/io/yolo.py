"""YOLO-OBB label files, as Ultralytics distributes and writes them."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport
from rsfoundation.io.dota import MALFORMED_LINES, LabelFile, LabelledBox, read_lines

_EXPECTED = "expected a class number and eight fractions 'class x1 y1 x2 y2 x3 y3 x4 y4'"
_LARGEST = 2.0  # fractions beyond it are pixels; corners may be outside the image


def read_yolo_txt(
    path: Path, size: tuple[int, int], names: Sequence[str], report: DatasetReport | None = None
) -> LabelFile:
    """Read one label file: one object a line, corners as fractions of the width and height of the image.

    Args:
        path: The label file; an empty one is an image without objects.
        size: Width and height of its image in pixels.
        names: Class names by number.
        report: Takes the malformed lines, which are left out; without one they raise.

    Raises:
        DataError: The file is missing or not text; without a report, a line is malformed.
    """
    found = DatasetReport() if report is None else report
    objects = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            if line:
                objects.append(_parse(line.split(), size, names, number))
        except ValueError as error:
            problem = DataError(
                f"malformed label line: {error} in {line[:80]!r}; {_EXPECTED}",
                where=f"{path}:{number}",
                fix=f"correct the line, or leave such lines out with {SKIPPING}",
            )
            found.error(MALFORMED_LINES, problem, path)
    if report is None:
        found.enforce("fail")
    return LabelFile(tuple(objects), size=size)


def read_yolo_classes(path: Path) -> tuple[str, ...]:
    """Return the class names of a data file: ``names`` as a list, or as a mapping from number to name.

    Raises:
        DataError: The file cannot be read, or has no such names.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        names = content["names"]
        if isinstance(names, dict):
            names = [names[number] for number in range(len(names))]
        if not names or isinstance(names, str):
            raise ValueError(f"names is {names!r}")
        return tuple(str(name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(
            f"no class names in the data file: {error!r}",
            where=path,
            fix="write 'names: [plane, ship]', or set metainfo=dict(classes=(...)) in the data set",
        ) from error


def _parse(fields: list[str], size: tuple[int, int], names: Sequence[str], number: int) -> LabelledBox:
    if len(fields) != 9:
        kind = " (5 are an upright box of YOLO)" if len(fields) == 5 else ""
        raise ValueError(f"found {len(fields)} fields{kind}")
    if not fields[0].isdecimal() or int(fields[0]) >= len(names):
        raise ValueError(f"class {fields[0]} is no number below {len(names)}")
    try:
        values = [float(field) for field in fields[1:]]
    except ValueError:
        raise ValueError("a coordinate is not a number") from None
    if not all(isfinite(value) for value in values):
        raise ValueError("a coordinate is not finite")
    if max(values) > _LARGEST:
        raise ValueError("the coordinates are pixels, not fractions of the image")
    quad = tuple(value * size[index % 2] for index, value in enumerate(values))
    return LabelledBox(quad, names[int(fields[0])], line=number)


def write_yolo_txt(path: Path, labels: NDArray[Any], quads: NDArray[Any], size: tuple[int, int]) -> None:
    """Write one label file that :func:`read_yolo_txt` reads.

    Args:
        path: The file.
        labels: Class numbers ``(n,)``.
        quads: Corners ``(n, 8)`` in pixels.
        size: Width and height of the image.
    """
    fractions = quads / np.tile(size, 4)
    lines = [
        " ".join([str(label), *(f"{value:.8f}".rstrip("0").rstrip(".") for value in quad)])
        for label, quad in zip(labels.tolist(), fractions.tolist(), strict=True)
    ]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_yolo_classes(path: Path, names: Sequence[str]) -> None:
    """Write a data file with the class names, for a folder whose images are in ``images``.

    Args:
        path: The file, such as ``data.yaml``.
        names: The classes in order of their numbers.
    """
    record = dict(path=".", train="images", val="images", names=dict(enumerate(names)))
    path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
