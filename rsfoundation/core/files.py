"""Files and folders that appear whole or not at all, and the manifest of a finished folder."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from typing import Any

from rsfoundation.core.errors import DataError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a finished folder says about itself.

    Attributes:
        maker: Which tool made it.
        parameters: What it was made with; equal parameters give equal files.
        content: Counts of its content.
    """

    maker: str
    parameters: dict[str, Any]
    content: dict[str, Any]


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a finished folder; ``None`` when there is none, or none of ours."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(record["maker"], record["parameters"], record["content"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def refuse_foreign(folder: Path, maker: str) -> None:
    """Check that a folder may be replaced.

    Args:
        folder: The folder to replace.
        maker: Name in its manifest.

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
            fix="choose another folder, or move this one away",
        )


def refuse_own_sources(folder: Path, files: Iterable[Path]) -> None:
    """Check that a folder holds none of the files that it is made from: they would be removed with it.

    Args:
        folder: The folder to make.
        files: The files that it is made from.

    Raises:
        DataError: One does.
    """
    home = folder.resolve()
    for parent in dict.fromkeys(file.parent for file in files):
        if parent.resolve().is_relative_to(home):
            raise DataError(
                f"the folder to make holds files that it is made from: those of {parent}",
                where=folder,
                fix="choose another folder for the result",
            )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary path in the folder of ``path``; the file written there replaces ``path`` at the end.

    The folder is made where it is missing. The temporary name keeps the suffix, which some writers choose
    the format by. Where the block raises, ``path`` stays as it was and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON (see :func:`plain_value`), so that a crash never leaves half a file.

    Args:
        path: The file; an older one is replaced.
        content: Numbers may be numpy's or torch's.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain_value(content), indent=2) + "\n", encoding="utf-8")


def plain_value(value: Any) -> Any:
    """Turn numpy and torch numbers into plain ones; NaN and infinities become ``None`` (JSON has none)."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one process at a time work below ``root``; others wait.

    Raises:
        DataError: Nothing can be written there.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise DataError(
            f"nothing can be written to the folder: {problem}",
            where=root,
            fix="choose a folder that you may write to; no part of its path may be a file",
        ) from error
    with lock as handle:
        flock(handle, LOCK_EX)
        try:
            yield
        finally:
            flock(handle, LOCK_UN)


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Lend an empty folder next to ``folder`` to make its content in; it is removed unless published.

    Leftovers of a run that was killed are removed; an older folder that it had moved away is restored.
    """
    staging = folder.with_name(f".{folder.name}.partial")
    if not folder.exists() and read_manifest(_outgoing(folder)) is not None:
        _outgoing(folder).rename(folder)
    for leftover in (staging, _outgoing(folder)):
        if leftover.exists():
            shutil.rmtree(leftover)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # an error here would hide the one that matters


def publish(staging: Path, folder: Path, manifest: Manifest) -> None:
    """Write the manifest and move a finished folder to its place, over an older one of the same maker.

    Args:
        staging: The finished folder.
        folder: Its place.
        manifest: Written to it.

    Raises:
        DataError: The place holds something foreign.
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
