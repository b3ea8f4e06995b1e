"""Importing the upstream toolboxes without the lines they print at import."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from mmengine.logging import print_log


@contextmanager
def without_onedl_notice() -> Iterator[None]:
    """Hold back one line that mmdet prints at import about a data format nobody here uses."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        yield
    for line in printed.getvalue().splitlines():
        if not line.startswith("Could not import OneDL"):
            print_log(line, logger="current")
