"""Files that belong into no archive, whichever server it is for."""

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from shlex import quote

from rsfoundation.detection.submission.faults import Faults, Finding

_MACOS = "__MACOSX/"
_ARCHIVES = (".zip", ".rar", ".7z", ".gz", ".tar")


def set_aside(path: str, names: Sequence[str], faults: Faults) -> list[str]:
    """Note the files that belong into no archive, and return the names of the others.

    Args:
        path: The archive.
        names: Of the files in it.
        faults: Receives what is wrong.
    """
    added = [name for name in names if name.startswith(_MACOS)]
    if added:  # as many as there are files: told once
        what = f"{files_lie(len(added))} in {_MACOS!r}, which macOS adds"
        faults.add(f"{path}/{added[0]}", Finding("file of macOS", what, take_out(path, f"{_MACOS}*")))
    others = []
    for name in (name for name in names if not name.startswith(_MACOS)):
        finding = _stray(path, name)
        if finding is None:
            others.append(name)
        else:
            faults.add(f"{path}/{name}", finding)
    return others


def base_name(name: str) -> str:
    """Return the name of a file without its folders, whichever slash they are written with."""
    return PureWindowsPath(name).name


def take_out(path: str, pattern: str) -> str:
    """Return the cure that deletes files from an archive."""
    return f"take them out: zip -d {quote(Path(path).name)} {quote(pattern)}"


def files_lie(count: int) -> str:
    """Return ``1 file lies`` or ``2 files lie``."""
    return "1 file lies" if count == 1 else f"{count} files lie"


def _stray(path: str, name: str) -> Finding | None:
    parts = name.split("/")
    if "\\" in name:
        what = f"the name {name!r} has a backslash; expected '/' between folder and file"
        return Finding("backslash in a name", what, "zip them with a program that writes '/': zip, 7-Zip")
    if re.match("[A-Za-z]:", name) or not {"", ".", ".."}.isdisjoint(parts):
        what = f"the name {name!r} is absolute, or has '.' or '..' in it; expected one below the archive"
        return Finding("odd name", what, "zip the files again from inside their folder, by relative names")
    if any(part.startswith(".") for part in parts):
        return Finding("hidden file", f"the file {name!r} is a hidden one", take_out(path, name))
    if name.lower().endswith(_ARCHIVES):
        what = f"the file {name!r} is an archive in the archive"
        return Finding("archive in the archive", what, "unpack it and zip the result files themselves")
    return None
