"""Reading COCO's json layout."""

import json
from pathlib import Path
from typing import Any

from rsfoundation.core.errors import DataError

_PARTS = ("images", "annotations", "categories")


def read_coco(path: Path) -> dict[str, Any]:
    """Read a COCO file.

    Raises:
        DataError: The file is missing, no json, or lacks one of COCO's parts.
    """
    if not path.is_file():
        raise DataError(
            "the annotation file does not exist", where=path, fix="set data_root and ann_file to where it is"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"the annotation file is no json: {error}", where=path) from error
    absent = [part for part in _PARTS if not isinstance(content, dict) or part not in content]
    if absent:
        raise DataError(
            f"the file lacks {', '.join(absent)}; expected COCO's images, annotations, categories", where=path
        )
    return content
