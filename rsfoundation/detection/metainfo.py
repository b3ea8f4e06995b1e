"""Class names and colours of a data set, from a tuple or a file."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsfoundation.errors import DataError
from rsfoundation.visualization import palette


def complete_metainfo(
    metainfo: Mapping[str, Any] | None, classes: tuple[str, ...], root: str
) -> dict[str, Any]:
    """Fill in classes and colours where the user gave none.

    Args:
        metainfo: What the config says; ``classes`` may be the path of a class list.
        classes: The data set's own.
        root: Folder that the path of a class list may start from.

    Raises:
        DataError: The class list is missing, empty, or names a class twice.
    """
    meta = {"classes": classes, **(metainfo or {})}
    if isinstance(meta["classes"], str):
        meta["classes"] = read_class_list(_find(meta["classes"], Path(root)))
    meta["classes"] = tuple(meta["classes"])
    return {"palette": list(palette(len(meta["classes"]))), **meta}


def read_class_list(path: Path) -> tuple[str, ...]:
    """Read class names: one a line; or all on one line, parted by commas or blanks.

    Raises:
        DataError: The file is missing, empty, or names a class twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"class list cannot be read: {error}", where=path) from error
    lines = [line.strip() for line in lines if line.strip()]
    names = lines
    if len(lines) == 1:
        separator = r"\s*,\s*" if "," in lines[0] else r"\s+"
        names = [name for name in re.split(separator, lines[0]) if name]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        problem = f"names {twice[0]!r} twice" if twice else "is empty"
        raise DataError(f"the class list {problem}", where=path, cure="write each class once, one a line")
    return tuple(names)


def _find(name: str, root: Path) -> Path:
    """Return the class list below the data folder if it lies there, else as given."""
    return root / name if (root / name).is_file() else Path(name)
