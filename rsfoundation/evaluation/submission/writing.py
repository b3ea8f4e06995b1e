"""FAIR1M submissions: a zip with ``test/<image>.xml``, one file for every test image."""

import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Literal, NamedTuple
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.oriented.patch_merging import as_prefetch_map
from rsfoundation.evaluation.oriented.records import ImageRecord
from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.ops.kernels.runtime import inlined, kernel

_SIGNIFICANT = 9  # digits that tell any two float32 apart
_BLANK, _POINT, _MINUS, _ZERO, _NEWLINE = 32, 46, 45, 48, 10
_MOST = 14  # characters of one number: blank, sign, nine digits, point, two digits


@inlined
def _put(out: np.ndarray, place: int, digits: int, decimals: int) -> int:
    """Write ``digits`` with that many of them behind the point; return where they end."""
    length, rest = 1, digits // 10
    while rest > 0:
        length += 1
        rest //= 10
    if decimals > 0:
        length = max(length, decimals + 1) + 1  # a zero before the point, and the point
    for position in range(length - 1, -1, -1):  # last first
        if decimals > 0 and position == length - 1 - decimals:
            out[place + position] = _POINT
        else:
            out[place + position] = _ZERO + digits % 10
            digits //= 10
    return place + length


@kernel
def _write(name: np.ndarray, scores: np.ndarray, hundredths: np.ndarray, out: np.ndarray) -> int:
    """Write ``name score numbers`` for each row of ``hundredths`` (n, k); return how many bytes that takes.

    ``scores`` (n, w) are texts filled up with zero bytes.
    """
    place = 0
    for row in range(hundredths.shape[0]):
        for letter in name:
            out[place] = letter
            place += 1
        out[place] = _BLANK
        place += 1
        for column in range(scores.shape[1]):
            if scores[row, column] == 0:
                break
            out[place] = scores[row, column]
            place += 1
        for column in range(hundredths.shape[1]):
            value = hundredths[row, column]
            out[place] = _BLANK
            place += 1
            if value < 0:
                out[place] = _MINUS
                place += 1
                value = -value
            place = _put(out, place, value, 2)
        out[place] = _NEWLINE
        place += 1
    return place


@kernel
def _print(values: np.ndarray, out: np.ndarray) -> None:
    """Write each of ``values`` (n,), not negative, to a row of ``out`` (n, w), zero bytes after it."""
    for row in range(len(values)):
        number, decimals = values[row], 0
        while 0 < number < 10.0 ** (_SIGNIFICANT - 1):
            number *= 10.0
            decimals += 1
        digits = np.int64(np.rint(number))
        while decimals > 0 and digits % 10 == 0:  # of zero, too
            digits //= 10
            decimals -= 1
        _put(out[row], 0, digits, decimals)


def score_texts(scores: np.ndarray) -> np.ndarray:
    """Return a text ``(n,)`` of each score that reads back as the same float32, without exponents.

    Args:
        scores: ``(n,)``, 0 to 10^9.
    """
    values = np.asarray(scores, dtype=np.float32).astype(np.float64)
    least = values[values > 0].min(initial=1.0)
    width = int(np.ceil(-np.log10(least))) + _SIGNIFICANT + 4
    out = np.zeros((len(values), width), np.uint8)
    _print(values, out)
    return out.view(f"S{width}")[:, 0]


def result_lines(name: str, scores: Sequence[str] | np.ndarray, table: np.ndarray) -> bytes:
    """Return a line for each row of ``table``: ``name score 1.25 -0.50``, numbers with two decimals.

    Args:
        name: Stands first in each line.
        scores: ``n`` texts.
        table: ``(n, k)`` numbers under 10^9.
    """
    if not len(table):
        return b""
    letters = np.frombuffer(name.encode(), np.uint8)
    texts = np.array(scores, dtype="S")
    bytes_of = texts.view(np.uint8).reshape(len(texts), -1)
    hundredths = np.rint(np.asarray(table, dtype=np.float64) * 100).astype(np.int64)
    most = len(letters) + bytes_of.shape[1] + 2 + _MOST * table.shape[1]
    out = np.empty(len(table) * most, np.uint8)
    return out[: _write(letters, bytes_of, hundredths, out)].tobytes()


_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal results give equal bytes
_LEVEL = 1  # a tenth larger than at the usual level, and five times faster
_IN_MEMORY = 4 << 20  # bytes of each file that stay in memory


class DeflatedFile(AbstractContextManager):
    """A file to be put into an archive; what it holds goes when its context ends.

    Args:
        name: In the archive.
    """

    def __init__(self, name: str) -> None:
        self._info = zipfile.ZipInfo(name, _NO_TIME)
        self._info.compress_type = zipfile.ZIP_DEFLATED
        self._info.external_attr = 0o644 << 16
        self._info.CRC = self._info.file_size = 0
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._packed: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed at the end)

    def __exit__(self, *_: Any) -> None:
        self._packed.close()

    def write(self, content: bytes) -> None:
        """Append to the file."""
        self._info.CRC = zlib.crc32(content, self._info.CRC)
        self._info.file_size += len(content)
        self._packed.write(self._packer.compress(content))

    def put_into(self, archive: zipfile.ZipFile) -> None:
        """End the file and make it the next one of an archive, as ``ZipFile.writestr`` does with a text."""
        self._packed.write(self._packer.flush())
        self._info.compress_size = self._packed.tell()
        self._packed.seek(0)
        assert archive.fp is not None  # it is open
        self._info.header_offset = archive.fp.tell()
        archive.fp.write(self._info.FileHeader())
        shutil.copyfileobj(self._packed, archive.fp)
        archive.filelist.append(self._info)
        archive.NameToInfo[self._info.filename] = self._info
        archive.start_dir = archive.fp.tell()  # where the directory of the archive goes when it is closed
        archive.comment = b""  # marks it as changed


def write_zip(path: Path, files: Iterable[DeflatedFile]) -> None:
    """Write an archive, whole or not at all.

    Args:
        path: The archive.
        files: In the order they get there; each may be closed when the next is asked for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    with zipfile.ZipFile(aside, "w") as archive:
        for file in files:
            file.put_into(archive)
    aside.replace(path)


Task = Literal["Task1", "Task2"]


class Written(NamedTuple):
    """What was written.

    Attributes:
        files: The archives.
        images: How many images.
        detections: How many detections.
        flat: Detections left out because nothing of their area is left at a hundredth of a pixel.
    """

    files: tuple[Path, ...]
    images: int
    detections: int
    flat: int


def write_dota(
    folder: Path,
    images: Iterable[ImageRecord],
    classes: Sequence[str],
    tasks: Sequence[Task] = ("Task1", "Task2"),
) -> Written:
    """Write ``Task1.zip`` and ``Task2.zip``; equal detections give equal bytes.

    Lines are ``image score x1 y1 x2 y2 x3 y3 x4 y4`` and ``image score xmin ymin xmax ymax`` in pixels of the
    full image. Scores keep every digit they have: rounded ones tie, and ties spoil the ranking that AP is
    made of. A class without detections has an empty file. Upright boxes are those around the oriented ones.

    Args:
        folder: Where the archives go.
        images: Full images, one at a time.
        classes: Names, in label order.
        tasks: Which of the two to write.

    Raises:
        DataError: An image or class name has blanks, which the format cannot hold.
    """
    for name in classes:
        _refuse_blanks(name, "class")
    count = detections = flat = 0
    with ExitStack() as stack:
        files = {
            task: [stack.enter_context(DeflatedFile(f"{task}_{name}.txt")) for name in classes]
            for task in tasks
        }
        for image in as_prefetch_map(images).then(partial(_lines_of, tasks=tasks)):
            count += 1
            detections += image.kept
            flat += image.flat
            for (task, label), lines in image.lines.items():
                files[task][label].write(lines)
        archives = {task: folder / f"{task}.zip" for task in tasks}
        for task, path in archives.items():
            write_zip(path, files[task])
    return Written(tuple(archives.values()), count, detections, flat)


def solid(corners: np.ndarray) -> np.ndarray:
    """Return which corners ``(n, 4, 2)`` have an area when they are written to a hundredth of a pixel."""
    x, y = np.round(corners, 2).transpose(2, 0, 1)
    x, y = x - x[:, :1], y - y[:, :1]
    twice = (np.roll(x, 1, 1) * y - x * np.roll(y, 1, 1)).sum(axis=1)
    return np.abs(twice) > 1e-4


class _ImageLines(NamedTuple):
    """One image as text: its lines by task and label, and how many detections have lines, and have none."""

    lines: dict[tuple[Task, int], bytes]
    kept: int
    flat: int


def _lines_of(record: ImageRecord, tasks: Sequence[Task]) -> _ImageLines:

    _refuse_blanks(record.name, "image")
    corners = rbox_to_quad(record.boxes)
    keep = solid(corners)
    texts = score_texts(record.scores)
    rows = {
        int(label): np.flatnonzero(keep & (record.labels == label))
        for label in np.unique(record.labels[keep])
    }
    lines: dict[tuple[Task, int], bytes] = {}
    for task in tasks:
        table = corners.reshape(-1, 8) if task == "Task1" else _upright(corners)
        for label, mine in rows.items():
            lines[task, label] = result_lines(record.name, texts[mine], table[mine])
    return _ImageLines(lines, int(keep.sum()), int((~keep).sum()))


def _upright(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _refuse_blanks(name: str, kind: str) -> None:
    if len(name.split()) != 1:
        raise DataError(
            f"{kind} name {name!r} cannot stand in a DOTA result file, whose fields end at blanks",
            fix=f"rename the {kind}",
        )


FOLDER = "test"
RESEARCH = {  # the server wants the fields and reads nothing out of them
    "version": "4.0",
    "provider": "provider",
    "author": "author",
    "pluginname": "FAIR1M",
    "pluginclass": "object detection",
    "time": "2021-07",
}


def official_name(name: str) -> str:
    """Return a class name as the server spells it: where ours has ``_``, it has a blank."""
    return name.replace("_", " ")


def write_fair1m(
    folder: Path,
    images: Iterable[ImageRecord],
    classes: Sequence[str],
    size_of: Callable[[ImageRecord], tuple[int, int]],
    suffix: str = ".tif",
) -> Written:
    """Write ``test.zip``; equal detections give equal bytes. An image without detections has a file too.

    Args:
        folder: Where the archive goes.
        images: Full images, one at a time.
        classes: Names, in label order.
        size_of: Returns width and height of a full image in pixels.
        suffix: Of the image files.
    """
    counts = {"images": 0, "detections": 0, "flat": 0}

    def files() -> Iterator[DeflatedFile]:
        for record in images:
            corners = rbox_to_quad(record.boxes)
            keep = solid(corners)
            counts["images"] += 1
            counts["detections"] += int(keep.sum())
            counts["flat"] += int((~keep).sum())
            with DeflatedFile(f"{FOLDER}/{record.name}.xml") as file:
                file.write(_document(record, corners, keep, classes, size_of(record), suffix))
                yield file

    path = folder / "test.zip"
    write_zip(path, files())
    return Written((path,), **counts)


def _document(
    record: ImageRecord,
    corners: np.ndarray,
    keep: np.ndarray,
    classes: Sequence[str],
    size: tuple[int, int],
    suffix: str,
) -> bytes:

    root = Element("annotation")
    _fill(SubElement(root, "source"), {"filename": f"{record.name}{suffix}", "origin": "GF2/GF3"})
    _fill(SubElement(root, "research"), RESEARCH)
    _fill(SubElement(root, "size"), {"width": str(size[0]), "height": str(size[1]), "depth": "3"})
    objects = SubElement(root, "objects")
    texts = score_texts(record.scores).astype(str).tolist()
    for place in np.flatnonzero(keep):
        node = SubElement(objects, "object")
        _fill(node, {"coordinate": "pixel", "type": "rectangle", "description": "None"})
        name = official_name(classes[record.labels[place]])
        _fill(SubElement(node, "possibleresult"), {"name": name, "probability": texts[place]})
        points = SubElement(node, "points")
        for x, y in (*corners[place], corners[place][0]):
            SubElement(points, "point").text = f"{x:.2f},{y:.2f}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _fill(node: Element, texts: dict[str, str]) -> None:
    for tag, text in texts.items():
        SubElement(node, tag).text = text
