"""Printing: one console, one table style, one error style."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rsfoundation.core.errors import RSFError

_ROOM = "free some space or choose another folder; what was complete before is kept"
_RIGHTS = "choose a folder that you may write to, or change its owner"
_FILE = "choose another path: there is a file where a folder is needed, or the other way round"
_FIXES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of file sizes: ulimit -f unlimited",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EEXIST: _FILE,
    errno.ENOTDIR: _FILE,
    errno.EISDIR: _FILE,
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}


def as_known(error: BaseException) -> RSFError | None:
    """Return the message for an error of the system; ``None`` for others."""
    if not isinstance(error, OSError) or error.errno not in _FIXES:
        return None
    what = (error.strerror or "the system refused").lower()
    return RSFError(what, where=error.filename, fix=_FIXES[error.errno])


console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def is_first_rank() -> bool:
    """Whether this process is the one of a distributed run that talks."""
    variables = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return all(os.environ.get(name, "0") == "0" for name in variables)


def say(text: str) -> None:
    """Print on the first rank."""
    if is_first_rank():
        console.print(text, soft_wrap=True)  # a path is there to be copied


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table on the first rank; numbers go through :func:`figure`."""
    grid = Table(header_style="bold")
    for place, column in enumerate(columns):  # names and places are there to be copied
        grid.add_column(column, overflow="fold", no_wrap=place == 0 or column == "where")
    for row in rows:
        grid.add_row(*(escape(figure(cell)) for cell in row))
    if is_first_rank():
        console.print(title, style="italic", soft_wrap=True)
        console.print(grid)


def metrics_table(title: str, metrics: Mapping[str, float]) -> None:
    """Print unified metrics."""
    table(title, ("metric", "value"), metrics.items())


def summary_text(summary: Mapping[str, object]) -> str:
    """Put the few numbers of a scene in one line."""
    return ", ".join(f"{name} {value}" for name, value in summary.items())


def figure(value: object) -> str:
    """Format one cell: floats with three decimals."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def report_error(error: Exception) -> int:
    """Print the message of an error first; only unforeseen ones show a traceback after it.

    Returns:
        The exit status: 2 for an error the user can fix, 1 for an unforeseen one.
    """
    known = _known(error)
    if known is not None:
        _errors.print(f"[bold red]error:[/bold red] {escape(_without_worker_trace(known))}")
        for label, text in (("where", known.where), ("fix", known.fix)):
            if text:
                _errors.print(f"  [bold]{label + ':':<6}[/bold] {escape(text)}")
        return 2
    file = _dump(error)
    _errors.print(
        f"[bold red]error:[/bold red] unforeseen {type(error).__name__}: {escape(str(error))[:2000]}"
    )
    _errors.print(
        "  [bold]fix:[/bold]  `rsf doctor` finds a broken environment; a fault of rsfoundation is worth a "
        f"report with {escape(str(file))}"
    )
    traceback.print_exception(error, limit=-4, file=sys.stderr)
    return 1


def _known(error: Exception) -> RSFError | None:
    """Find the known error behind one that a library wrapped in its own, else one of the system."""
    behind = list(_chain(error))
    known = (one for one in behind if isinstance(one, RSFError))
    return next(known, None) or next(filter(None, map(as_known, behind)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_worker_trace(error: RSFError) -> str:
    """Cut off the traceback that torch puts into the message of a dataloader worker's error."""
    mark = f"{type(error).__name__}: "
    return error.what.rsplit(mark, 1)[-1].strip() if "Original Traceback" in error.what else error.what


def _dump(error: Exception) -> Path:
    """Keep the whole traceback in a file, so that the console shows the message."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="rsf-error-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return Path(file.name)
