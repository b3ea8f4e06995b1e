"""The newest whole checkpoint of a run folder."""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.logging import print_log

from rsfoundation.checkpoints.publishing import is_complete


def newest_complete(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run that is whole, and say which were passed over.

    ``last_checkpoint`` names it, unless the run was killed between publishing a checkpoint and naming it, or
    the named one has vanished or is damaged.
    """
    named = named_by_marker(folder)
    found = [path for path in folder.glob("*_*.pth") if _step(path) is not None]
    found.sort(key=lambda path: (path.stat().st_mtime, _step(path)), reverse=True)
    if named is not None and named.exists():
        newer = [path for path in found if _newer(path, named)]
        found = [*newer, named, *(path for path in found if path not in newer and path != named)]
    for path in found:
        if is_complete(path):
            return path
        print_log(f"{path} is damaged: passed over", logger="current", level=logging.WARNING)
    return None


def named_by_marker(folder: Path) -> Path | None:
    """Return the checkpoint that a run's ``last_checkpoint`` names, there or not; ``None`` without a name."""
    marker = folder / "last_checkpoint"
    text = marker.read_text().strip() if marker.is_file() else ""
    if not text:
        return None
    named = Path(text)
    # The marker holds the path of the day: a moved run folder still has the file inside.
    return folder / named.name if (folder / named.name).exists() else named


def _step(path: Path) -> int | None:
    number = path.stem.rsplit("_", 1)[-1]
    return int(number) if number.isdigit() and not path.name.startswith("best_") else None


def _newer(path: Path, named: Path) -> bool:
    return path.stat().st_mtime > named.stat().st_mtime and (_step(path) or 0) > (_step(named) or 0)
