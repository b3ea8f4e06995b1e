"""The report of a check as one HTML file with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from rsfoundation.core.files import replacing
from rsfoundation.core.reports import DatasetReport
from rsfoundation.prepare.browse import draw_item
from rsfoundation.prepare.check.boxes import ANGLE_EDGES, ASPECT_EDGES, SIZE_EDGES, BoxStatistics
from rsfoundation.prepare.check.items import Item
from rsfoundation.prepare.check.run import BETWEEN, DataCheck, SplitCheck

_SIDE = 260  # pixels of a picture
_PICTURES, _NAMED = 4, 12  # pictures and file names of each kind of problem
_STYLE = (Path(__file__).with_name("report.css")).read_text(encoding="utf-8")


def write_html(check: DataCheck, path: Path) -> None:
    """Write the report of a check.

    Args:
        check: The check.
        path: The file; it appears whole or not at all.
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>Data check: {escape(check.source)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Data check</h1><p class='quiet'><code>{escape(check.source)}</code></p>",
        f"<p>{escape(check.describe())}</p>",
        _summary(check),
        "<h2>Problems</h2>",
        *_problems(check),
        *(_split(one) for one in check.splits),
        "</body></html>",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _summary(check: DataCheck) -> str:
    rows = []
    for one in check.splits:
        report = one.data.report
        errors = sum(report.errors.values())
        others = sum(report.counts.values()) - errors + len(report.warnings)
        objects = sum(one.boxes.classes.values()) if one.boxes else "-"
        size = next(iter(one.sizes), "-") + (f" and {len(one.sizes) - 1} more" if len(one.sizes) > 1 else "")
        rows.append(
            (one.data.name, len(one.data.items), objects, size, ", ".join(one.dtypes) or "-", errors, others)
        )
    return _table(("split", "samples", "objects", "size", "bands", "errors", "warnings"), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if isinstance(c, (int, float)) else ''}>{_cell(c)}</td>" for c in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    text = (
        f"{value:,.2f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
    return escape(text)


def _problems(check: DataCheck) -> list[str]:
    """Return a block for each kind of problem, errors first, with examples and pictures."""
    blocks: list[tuple[bool, str]] = []
    for name, report in check.reports.items():
        items = _items_by_file(check, name)
        for kind, files in report.files.items():
            shots = _twin_shots(check, kind) or _shots(check, items, files)
            if name == BETWEEN and not shots:
                shots = "".join(_shot(item, check) for item in check.swapped[:_PICTURES])
            blocks.append((report.errors[kind] > 0, _block(name, report, kind, shots)))
        for warning in report.warnings:
            text = f"<span class=tag>warning</span> <b>{escape(name)}</b>: {escape(warning)}"
            blocks.append((False, f"<div class=problem>{text}</div>"))
    if not blocks:
        return ["<p class=good>No problem was found.</p>"]
    return [block for _, block in sorted(blocks, key=lambda entry: not entry[0])]


def _block(name: str, report: DatasetReport, kind: str, shots: str) -> str:
    examples = "".join(
        f"<li><code>{escape(e.where)}</code>: {escape(e.what)}"
        + (f"<br><span class=quiet>fix: {escape(e.fix)}</span>" if e.fix else "")
        + "</li>"
        for e in report.examples.get(kind, ())
    )
    files = report.files[kind]
    named = ", ".join(files[:_NAMED]) + (" ..." if len(files) > _NAMED else "")
    more = f"<p class=quiet>{len(files)} files: {escape(named)}</p>" if len(files) > 1 else ""
    severity = "error" if report.errors[kind] else "warning"
    title = f"<span class=tag>{severity}</span> <b>{escape(name)}</b>: {report.counts[kind]} {escape(kind)}"
    shown = f"<div class=row>{shots}</div>" if shots else ""
    return f"<div class='problem {severity}'>{title}<ul>{examples}</ul>{more}{shown}</div>"


def _items_by_file(check: DataCheck, split: str) -> dict[str, Item]:
    """Return the item of each file name of a split."""
    found: dict[str, Item] = {}
    for one in check.splits:
        if one.data.name == split:
            for item in one.data.items:
                for path in (*item.images, item.label):
                    if path:
                        found.setdefault(Path(path).name, item)
    return found


def _twin_shots(check: DataCheck, kind: str) -> str:
    twins = list(check.twins.get(kind, ()))[:_PICTURES]
    return "".join(
        f"<div><div class=row>{_shot(twin.one, check)}{_shot(twin.other, check)}</div>"
        f"<div class=quiet>{escape(twin.what)}</div></div>"
        for twin in twins
    )


def _shots(check: DataCheck, items: Mapping[str, Item], files: Sequence[str]) -> str:
    shown = list({id(items[name]): items[name] for name in files if name in items}.values())[:_PICTURES]
    return "".join(_shot(item, check) for item in shown)


def _shot(item: Item, check: DataCheck) -> str:
    """Return the images of an item with its labels drawn, as a figure."""
    split = next(one for one in check.splits if one.data.name == item.split)
    pictures = [_picture(item, split, place) for place in range(len(item.images))]
    images = "".join(f"<img src='data:image/jpeg;base64,{data}' alt=''>" for data in pictures if data)
    if not images:
        images = "<div class=quiet>cannot be shown</div>"
    name = f"{item.split}/{Path(item.images[0]).name}"
    return f"<figure><div class=row>{images}</div><figcaption>{escape(name)}</figcaption></figure>"


def _picture(item: Item, split: SplitCheck, place: int) -> str:
    """Return a small JPEG of an image with its labels, in base 64; empty where it cannot be read."""
    small = draw_item(item, split.data, place, _SIDE, enlarge=True)
    if small is None:
        return ""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return base64.b64encode(data.tobytes()).decode() if done else ""


def _split(one: SplitCheck) -> str:
    """Return the statistics of a split."""
    parts = [f"<h2>{escape(one.data.name)}</h2>"]
    plots = []
    counts = dict(one.boxes.classes) if one.boxes else one.pixels
    if counts:
        plots.append(_bars("objects per class" if one.boxes else "pixels per class", counts))
    if one.boxes is not None:
        plots += _box_plots(one.boxes)
    parts.append(f"<div class=plots>{''.join(plots)}</div>")
    if one.boxes is not None:
        parts.append(_box_facts(one.boxes))
    if one.pixels:
        parts.append(f"<p class=quiet>{one.ignored:.1%} of the pixels of the label maps are ignored.</p>")
    if one.bands:
        rows = [
            (number, b.mean, b.std, b.low, b.high, b.constant) for number, b in enumerate(one.bands, start=1)
        ]
        parts.append(
            "<h3>bands</h3>"
            + _table(("band", "mean", "std", "least", "largest", "images with one value"), rows)
        )
    return "\n".join(parts)


def _box_plots(boxes: BoxStatistics) -> list[str]:
    plots = [
        _bars("size: square root of the area, px", dict(zip(_ranges(SIZE_EDGES), boxes.sizes, strict=True))),
        _bars("aspect: long by short side", dict(zip(_ranges(ASPECT_EDGES), boxes.aspects, strict=True))),
    ]
    if boxes.angles:
        plots.append(
            _bars(
                "angle of the long side, degrees (le90)",
                dict(zip(_ranges(ANGLE_EDGES), boxes.angles, strict=True)),
            )
        )
    return plots


def _box_facts(boxes: BoxStatistics) -> str:
    least, median, most = boxes.per_image
    facts = [
        ("objects per image (least, median, most)", f"{least}, {median}, {most}"),
        ("under the least side", boxes.small),
        ("partly beyond the image", boxes.partly_outside),
    ]
    if boxes.conventions is not None:
        total = max(1, sum(boxes.aspects))
        named = ", ".join(f"{name}: {count}" for name, count in boxes.conventions.items())
        facts += [
            (
                "nearly square (angle ambiguous by a quarter turn)",
                f"{boxes.near_square} ({boxes.near_square / total:.1%})",
            ),
            ("angle convention of the corners", f"{boxes.convention} (label files that fit {named})"),
        ]
    return _table(("boxes", ""), facts)


def _ranges(edges: Sequence[float]) -> list[str]:
    return [f"{a:g}+" if np.isinf(b) else f"{a:g} to {b:g}" for a, b in pairwise(edges)]


def _bars(title: str, counts: Mapping[str, int]) -> str:
    """Return a bar chart as SVG."""
    most, height, left, width = max([*counts.values(), 1]), 18, 150, 170
    rows = []
    for place, (name, count) in enumerate(counts.items()):
        y, length = place * height, max(count / most * width, 1 if count else 0)
        rows.append(f"<text x='{left - 8}' y='{y + 13}' text-anchor='end'>{escape(name[:24])}</text>")
        rows.append(f"<rect x='{left}' y='{y + 3}' width='{length:.1f}' height='12' fill='#3b7dbd'/>")
        rows.append(f"<text x='{left + length + 5:.1f}' y='{y + 13}' fill='#5b6b7c'>{count:,}</text>")
    box = f"width='{left + width + 90}' height='{max(1, len(counts)) * height}'"
    svg = f"<svg {box} font-size='12' font-family='system-ui, sans-serif'>{''.join(rows)}</svg>"
    return f"<div><h3>{escape(title)}</h3>{svg}</div>"
