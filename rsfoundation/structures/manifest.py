"""What a folder made by this package says about itself: ``manifest.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a finished folder says about itself.

    Attributes:
        maker: Which tool made it.
        parameters: What it was made with; equal parameters give equal files.
        content: Counts of what is in it.
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
