"""What reports of several tasks share: a folder for each metric, plots, confusion matrices as pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

INK = "#181a1b"
_MAX_NUMBERED = 22  # classes up to which a cell of the confusion matrix can hold its number


def report_folders(metrics: Sequence[Any], kind: type[Any], folder: Path) -> Iterator[tuple[Any, Path]]:
    """Yield the evaluation of each metric of a kind, and its folder: ``evaluation``, ``evaluation_2``, ...

    Args:
        metrics: The evaluator's metric objects after a test; others, and those without evaluation, are left
            out.
        kind: Class of the metrics, which have an ``evaluation``.
        folder: The run folder.
    """
    measured = [metric.evaluation for metric in metrics if isinstance(metric, kind)]
    for number, evaluation in enumerate(filter(None, measured), start=1):
        yield evaluation, folder / ("evaluation" if number == 1 else f"evaluation_{number}")


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return a matplotlib figure and its axes.

    Args:
        width: In inches.
        height: In inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def draw_confusion_matrix(
    counts: np.ndarray, names: Sequence[str], path: Path, title: str, labels: tuple[str, str]
) -> None:
    """Draw a confusion matrix as shares of each row, with counts where there is room.

    Args:
        counts: ``(n, n)``, truth by row.
        names: Of rows and columns.
        path: The PNG file.
        title: Of the picture.
        labels: Of the rows and of the columns.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3.2 + 0.42 * len(names)
    figure, axes = new_figure(side + 1, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel=labels[1], ylabel=labels[0])
    axes.set_title(title, fontsize=9)
    if len(names) <= _MAX_NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.6 else INK
            text = _short(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.7)
    figure.savefig(path, dpi=110)


def _short(count: int) -> str:
    """Return a count in at most four or five characters: ``1234``, ``56k``, ``7.8M``."""
    for limit, divisor, unit in ((10_000, 1, ""), (999_500, 1e3, "k"), (999.5e6, 1e6, "M")):
        if count < limit:
            return f"{count / divisor:.{1 if unit and count / divisor < 10 else 0}f}{unit}"
    return f"{count / 1e9:.1f}G"
