"""Folders that are complete or absent: made beside their place, moved there at the end."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path

from rsfoundation.errors import DataError
from rsfoundation.structures.manifest import MANIFEST, Manifest, read_manifest


def refuse_foreign(folder: Path, maker: str) -> None:
    """Check that a folder may be replaced.

    Raises:
        DataError: It holds files, and they were not made by ``maker``.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    manifest = read_manifest(folder)
    if manifest is None or manifest.maker != maker:
        raise DataError(
            f"the folder exists and was not made by {maker}; it is left as it is",
            where=folder,
            cure="choose another folder, or move this one away",
        )


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one process at a time work below ``root``; others wait."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as handle:
        flock(handle, LOCK_EX)
        try:
            yield
        finally:
            flock(handle, LOCK_UN)


def stage(folder: Path) -> Path:
    """Return an empty folder beside ``folder`` to make its content in; leftovers of a broken run go."""
    staging = folder.with_name(f".{folder.name}.partial")
    for leftover in (staging, _outgoing(folder)):
        if leftover.exists():
            shutil.rmtree(leftover)
    staging.mkdir(parents=True)
    return staging


def publish(staging: Path, folder: Path, manifest: Manifest) -> None:
    """Write the manifest and move a finished folder to its place, over an older one of the same maker.

    Raises:
        DataError: Something foreign stands there.
    """
    record = json.dumps(vars(manifest), indent=1)
    (staging / MANIFEST).write_text(record + "\n", encoding="utf-8")
    refuse_foreign(folder, manifest.maker)
    if folder.exists():
        folder.rename(_outgoing(folder))
    staging.rename(folder)
    if _outgoing(folder).exists():
        shutil.rmtree(_outgoing(folder))


def _outgoing(folder: Path) -> Path:
    """Return where an older folder waits while its successor moves in."""
    return folder.with_name(f".{folder.name}.old")
