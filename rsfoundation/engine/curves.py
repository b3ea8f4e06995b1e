"""Loss and metric curves of a run as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_NO_CURVE = {"epoch", "iter", "lr", "base_lr", "time", "data_time", "memory", "grad_norm"}


def draw_curves(record: dict[str, Any], path: Path) -> None:
    """Draw the record of a run: losses, validation metrics and learning rate over iterations.

    Args:
        record: ``{"train": [...], "val": [...]}`` as kept by ``RunRecordHook``; each row has ``iter``.
        path: The PNG file; nothing is written while there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, val = record["train"], record["val"]
    if not train and not val:
        return
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, metrics, rates = figure.subplots(1, 3)
    _lines(losses, train, [key for key in _keys(train) if "loss" in key], bold="loss")
    losses.set(title="training loss", xlabel="iteration", yscale="log")
    _lines(metrics, val, _keys(val), marker="o")
    metrics.set(title="validation", xlabel="iteration", ylim=(0, 1))
    metrics.set_xlim(0, max((row["iter"] for row in (*train, *val)), default=1) * 1.05)
    _lines(rates, train, ["lr"])
    rates.set(title="learning rate", xlabel="iteration")
    for axes in (losses, metrics, rates):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _keys(rows: list[dict[str, Any]]) -> list[str]:
    return [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _NO_CURVE]


def _lines(axes: Any, rows: list[dict[str, Any]], keys: list[str], bold: str = "", **style: Any) -> None:
    for key in keys:
        points = [(row["iter"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=key, linewidth=2.2 if key == bold else 1.0, **style)
