#!/usr/bin/env python
"""Print the package files that run between ``rsf train`` and the first loss of the detection quickstart.

A file counts when one of its functions is called in the main process; what runs while a module is found
and imported (class bodies, decorators, registration, import hooks) does not. Operators (``rsfoundation/ops``)
are counted apart: torch and mmcv call them, and nobody who follows a training reads them.

Usage: python tools/train_path.py
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import rsfoundation

ROOT = Path(rsfoundation.__file__).parent
CONFIG = "quickstart/detection_toy_lsknet_t"
_IMPORT = ("_find_and_load", "<frozen importlib._bootstrap>")
ONE_PROCESS = ("train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False")


class _FirstLoss(BaseException):
    """Ends the training at its first loss."""


class Trace:
    """Notes each file of the package when a function of it is first called.

    Attributes:
        files: File below the package -> the function that was called first.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._importing = 0

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """Take an event of ``sys.setprofile``."""
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if name == "<module>" or (name, file) == _IMPORT:
            self._importing += {"call": 1, "return": -1}.get(event, 0)
        elif event == "call" and not self._importing and file.startswith(str(ROOT)):
            self.files.setdefault(str(Path(file).relative_to(ROOT)), name)
        elif event == "return" and name == "loss" and "detectors" in file and value is not None:
            sys.setprofile(None)
            raise _FirstLoss


def trace_training(folder: Path) -> dict[str, str]:
    """Draw a few toy scenes in a folder, start a training there and return what ran before the first loss."""
    from rsfoundation.cli import main
    from rsfoundation.prepare.toy import make_toy_scenes

    os.chdir(folder)
    make_toy_scenes(Path("data/toy"), counts={"train": 4, "val": 2, "test": 2}, tasks=("detection",))
    sys.argv = ["rsf", "train", CONFIG, "--device", "cpu", "--cfg-options", *ONE_PROCESS]
    trace = Trace()
    sys.setprofile(trace)
    with contextlib.suppress(_FirstLoss):
        main()
    sys.setprofile(None)
    return trace.files


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        found = trace_training(Path(temporary))
        os.chdir("/")
    operators = [file for file in found if file.startswith("ops/")]
    path = [file for file in found if file not in operators]
    for number, file in enumerate(path, start=1):
        print(f"{number:3d}  {file:50s} {found[file]}")  # noqa: T201
    print(f"{len(path)} files, and {len(operators)} of operators: {', '.join(operators)}")  # noqa: T201
