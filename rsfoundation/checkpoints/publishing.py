"""Writing aside and publishing: a crash, a full disk or a kill leaves what was there before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsfoundation.checkpoints.archive import check_archive, is_archive
from rsfoundation.errors import CheckpointError

MARKER = "complete.json"


def aside(target: Path) -> Path:
    """Return where a checkpoint is written before it gets its name: hidden, beside it."""
    return target.with_name(f".{target.name}.part")


@contextmanager
def published(target: Path) -> Iterator[Path]:
    """Give a place to write a file or a folder to, and publish it under ``target`` if that succeeds."""
    place = aside(target)
    remove(place)
    try:
        yield place
        publish(place, target)
    finally:
        remove(place)


def publish(place: Path, target: Path) -> None:
    """Bring what lies at ``place`` safely to disk, mark a folder as complete, and rename it to ``target``."""
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != MARKER)
        for file in files:
            _to_disk(file)
        sizes = {file.relative_to(place).as_posix(): file.stat().st_size for file in files}
        (place / MARKER).write_text(json.dumps(sizes))
        _to_disk(place / MARKER)
        _to_disk(place)
        if target.is_dir():  # a folder cannot be renamed onto one that holds files
            old = aside(target).with_suffix(".old")
            target.rename(old)
            place.rename(target)
            remove(old)
        else:
            place.rename(target)
    else:
        _to_disk(place)
        place.replace(target)
    _to_disk(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with published(target) as place:
        place.write_text(text)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_complete(path: Path) -> bool:
    """Say whether a checkpoint is whole: a folder by its marker and sizes, a file by its archive."""
    try:
        if path.is_dir():
            sizes = json.loads((path / MARKER).read_text())
            return all((path / name).stat().st_size == size for name, size in sizes.items())
        if not is_archive(path):
            return False
        check_archive(path)
    except (OSError, ValueError, AttributeError, CheckpointError):
        return False
    return True


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems sync no folders
            raise
    finally:
        os.close(handle)
