"""What a killed prediction had finished: a hidden folder per scene in the output folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import replacing

_VERSION = 2  # raised when equal settings would give other files


@dataclass(frozen=True)
class Journal:
    """The unfinished work of one scene and one model.

    Attributes:
        folder: Where it is kept; it disappears with the scene's completion.
        settings: Everything that the numbers depend on.
    """

    folder: Path
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Digest of the settings."""
        text = json.dumps({"version": _VERSION, **self.settings}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def open(self, keep: bool = True) -> None:
        """Make the folder; work that was done with other settings is thrown away.

        Args:
            keep: Whether unfinished work with equal settings is continued.

        Raises:
            DataError: Nothing can be written there.
        """
        note = self.folder / "settings.json"
        try:
            if self.folder.exists() and not (keep and _digest(note) == self.fingerprint):
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            content = json.dumps({"fingerprint": self.fingerprint, **self.settings}, default=str, indent=1)
            with replacing(note) as temporary:
                temporary.write_text(content)
        except OSError as error:
            raise DataError(
                f"nothing can be written to the output folder: {(error.strerror or str(error)).lower()}",
                where=self.folder.parent,
                fix="choose a folder that you may write to: -o FOLDER",
            ) from error

    def close(self) -> None:
        """Remove the folder: the scene is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def row_file(self, row: int) -> Path:
        """Return the file of the packed predictions of one window row."""
        return self.folder / f"row_{row:06d}.npz"

    def save_row(self, row: int, windows: Mapping[int, Mapping[str, np.ndarray]]) -> None:
        """Write the packed predictions of one window row.

        Args:
            row: Index of the window row.
            windows: Place of each window in the row, and its packed prediction.
        """
        arrays = {
            f"{column}/{name}": value for column, packed in windows.items() for name, value in packed.items()
        }
        with replacing(self.row_file(row)) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]

    def load_row(self, row: int) -> dict[int, dict[str, np.ndarray]]:
        """Return what :meth:`save_row` wrote."""
        found: dict[int, dict[str, np.ndarray]] = {}
        with np.load(self.row_file(row), allow_pickle=False) as content:
            for key in content.files:
                column, name = key.split("/", 1)
                found.setdefault(int(column), {})[name] = content[key]
        return dict(sorted(found.items()))


def _digest(note: Path) -> str | None:
    try:
        return json.loads(note.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError):
        return None


def file_identity(path: Path) -> tuple[str, int, int]:
    """Return path, size and modification time of a file: what tells whether it is the same one.

    Raises:
        OSError: There is no such file.
    """
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns
