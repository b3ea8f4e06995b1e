"""Pictures of results: masks and class maps over an image, captions and legends, the interactive map."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from PIL import Image, ImageDraw, ImageFont

from rsfoundation.core.files import replacing
from rsfoundation.core.task import Classes
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import Features, to_table
from rsfoundation.visualization.palette import Colour

Plate = tuple[int, int, int, int]  # left, top, right, bottom

INK: Colour = (24, 26, 27)
PAPER: Colour = (250, 250, 248)


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font at ``size`` pixels."""
    return ImageFont.load_default(size=size)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Return width and line height of ``text`` in pixels.

    Args:
        text: One line.
        size: Font size in pixels.
    """
    left, _, right, _ = font(size).getbbox(text)
    return int(np.ceil(right - left)), round(1.35 * size)


def draw_text(
    picture: np.ndarray, text: str, position: tuple[int, int], size: int, colour: Colour = INK
) -> np.ndarray:
    """Return a copy with ``text``, its left edge and vertical middle at ``position``.

    Args:
        picture: RGB ``(H, W, 3)`` uint8.
        text: One line.
        position: ``(x, y)`` in pixels.
        size: Font size in pixels.
        colour: RGB, 0..255.
    """
    canvas = Image.fromarray(picture)
    ImageDraw.Draw(canvas).text(position, text, fill=colour, font=font(size), anchor="lm")
    return np.asarray(canvas).copy()


def draw_tags(
    picture: np.ndarray,
    texts: Sequence[str],
    positions: np.ndarray,
    colours: Sequence[Colour],
    size: int = 13,
) -> np.ndarray:
    """Return a copy with a small plate of each text above its position, kept inside the picture.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        texts: One text per position, the most important first: a plate that would cover an earlier one
            is left out.
        positions: ``(N, 2)`` x, y in pixels; the plate's lower left corner.
        colours: Plate colours.
        size: Font height in pixels.
    """
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    placed: list[Plate] = []
    for text, position, colour in zip(texts, positions, colours, strict=True):
        plate = _plate(text, position, size, picture.shape)
        if any(_overlap(plate, other) for other in placed):
            continue
        placed.append(plate)
        pen.rectangle((*plate[:2], plate[2] - 1, plate[3] - 1), fill=colour)
        middle = (plate[0] + 3, (plate[1] + plate[3]) / 2)
        pen.text(middle, text, fill=_readable_on(colour), font=font(size), anchor="lm")
    return np.asarray(canvas).copy()


def _plate(text: str, position: np.ndarray, size: int, shape: tuple[int, ...]) -> Plate:
    """Return the plate of a text, pulled inside a picture of this shape."""
    wide, high = text_size(text, size)
    left = int(np.clip(position[0], 0, max(0, shape[1] - wide - 6)))
    top = int(np.clip(position[1] - high, 0, max(0, shape[0] - high)))
    return left, top, left + wide + 6, top + high


def _overlap(a: Plate, b: Plate) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _readable_on(colour: Colour) -> Colour:
    """Choose dark or light text by the plate's luma (ITU-R BT.601)."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else PAPER


_FONT = 16
_CAPTION = 30  # height of the caption bar
_GAP = 8
_SWATCH = 14


def magnification(picture: np.ndarray, least: int = 640) -> float:
    """Return the factor that brings the shorter side to ``least`` pixels; never below 1.

    Args:
        picture: RGB ``(H, W, 3)`` uint8.
        least: Wanted length of the shorter side in pixels.
    """
    return max(1.0, least / min(picture.shape[:2]))


def magnify(picture: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge a picture so that lines and text drawn over it stay fine; coordinates scale likewise.

    Args:
        picture: RGB ``(H, W, 3)`` uint8.
        factor: Factor of both sides, at least 1.
    """
    if factor == 1.0:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def side_by_side(panels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Set captioned pictures in a row; lower ones are filled up with paper.

    Args:
        panels: Caption and RGB picture of each panel, left to right.
    """
    height = max(picture.shape[0] for _, picture in panels) + _CAPTION
    columns: list[np.ndarray] = []
    for caption, picture in panels:
        column = _paper(height, picture.shape[1])
        column[_CAPTION : _CAPTION + picture.shape[0]] = picture
        columns += [draw_text(column, caption, (4, _CAPTION // 2), _FONT), _paper(height, _GAP)]
    return np.concatenate(columns[:-1], axis=1)


def add_legend(picture: np.ndarray, entries: Sequence[tuple[str, Colour]]) -> np.ndarray:
    """Add a strip below the picture with a colour swatch and a name for each entry.

    Args:
        picture: RGB ``(H, W, 3)`` uint8.
        entries: Name and RGB colour of each class.
    """
    if not entries:
        return picture
    width = picture.shape[1]
    line, x = 0, _GAP
    places: list[tuple[int, int]] = []
    for name, _ in entries:
        needed = _SWATCH + 6 + text_size(name, _FONT)[0] + 2 * _GAP
        if x + needed > width and x > _GAP:
            line, x = line + 1, _GAP
        places.append((x, line * _CAPTION + _CAPTION // 2))
        x += needed
    strip = _paper((line + 1) * _CAPTION, width)
    for (name, colour), (left, middle) in zip(entries, places, strict=True):
        corner = (left, middle - _SWATCH // 2)
        cv2.rectangle(strip, corner, (left + _SWATCH, middle + _SWATCH // 2), colour, cv2.FILLED)
        cv2.rectangle(strip, corner, (left + _SWATCH, middle + _SWATCH // 2), INK, 1)
        strip = draw_text(strip, name, (left + _SWATCH + 6, middle), _FONT)
    return np.concatenate([picture, strip])


def class_entries(classes: Classes, *labels: np.ndarray) -> list[tuple[str, Colour]]:
    """Return name and colour of the classes that occur, in label order, for :func:`add_legend`.

    Args:
        classes: Names and colours.
        *labels: Labels of any shape; those of no class (255: ignored) have no entry.
    """
    occurring = set().union(*(np.unique(part).tolist() for part in labels))
    named = zip(classes.names, classes.palette, strict=True)
    return [entry for label, entry in enumerate(named) if label in occurring]


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, dtype=np.uint8)


_SHIFT = 4  # OpenCV draws at 1/16 pixel with four fractional bits
_ROOM_FOR_TAGS = 40  # more tags than this hide the objects; the legend still names the colours


def draw_boxes(
    picture: np.ndarray,
    quads: np.ndarray,
    colours: Sequence[Colour],
    tags: Sequence[str] | None = None,
) -> np.ndarray:
    """Return a copy with the outlines of quadrilaterals.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        quads: Corners ``(N, 4, 2)`` in pixels of the picture.
        colours: One colour per quadrilateral.
        tags: One text per quadrilateral; left out when there are more than forty.
    """
    canvas = np.ascontiguousarray(picture).copy()
    stroke = stroke_width(picture)
    fixed = np.round(np.asarray(quads).reshape(-1, 4, 2) * (1 << _SHIFT)).astype(np.int32)
    for corners in fixed:
        cv2.polylines(canvas, [corners], True, INK, stroke + 2, cv2.LINE_AA, _SHIFT)
    for corners, colour in zip(fixed, colours, strict=True):
        cv2.polylines(canvas, [corners], True, colour, stroke, cv2.LINE_AA, _SHIFT)
    if tags is None or not 0 < len(tags) <= _ROOM_FOR_TAGS:
        return canvas
    return draw_tags(canvas, tags, _tag_positions(np.asarray(quads)), colours)


def stroke_width(picture: np.ndarray) -> int:
    """Return the line width in pixels that suits the picture's size."""
    return max(1, round(min(picture.shape[:2]) / 640))


def _tag_positions(quads: np.ndarray) -> np.ndarray:
    """Put a tag above the left end of each object's upright rectangle ``(N, 2)``."""
    return quads.reshape(-1, 4, 2).min(axis=1) - (0, 3)


def overlay_masks(
    picture: np.ndarray, masks: np.ndarray, colours: Sequence[Colour], opacity: float = 0.4
) -> np.ndarray:
    """Return a copy with tinted masks and their outlines.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        masks: ``(N, H, W)`` booleans, one per object.
        colours: One colour per mask.
        opacity: Share of the colour inside a mask.
    """
    canvas = np.ascontiguousarray(picture).copy()
    for mask, colour in zip(masks.astype(bool), colours, strict=True):
        canvas[mask] = _mix(canvas[mask], np.array(colour), opacity)
    for mask, colour in zip(masks, colours, strict=True):
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(canvas, outlines, -1, colour, stroke_width(picture), cv2.LINE_AA)
    return canvas


def overlay_classes(
    picture: np.ndarray,
    labels: np.ndarray,
    colours: Sequence[Colour],
    opacity: float = 0.55,
    clear: Sequence[int] = (),
) -> np.ndarray:
    """Return a copy tinted with a class map; labels without a colour (255: ignored) stay untouched.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        labels: ``(H, W)`` integers.
        colours: Colour of label 0, 1, ...
        opacity: Share of the colour.
        clear: Labels that stay untouched, such as the background.
    """
    known = (labels >= 0) & (labels < len(colours)) & ~np.isin(labels, list(clear))
    canvas = np.array(picture)
    canvas[known] = _mix(canvas[known], np.array(colours, dtype=np.uint8)[labels[known]], opacity)
    return canvas


def magnify_and_tint(
    picture: np.ndarray, labels: np.ndarray, colours: Sequence[Colour], clear: Sequence[int] = ()
) -> np.ndarray:
    """Return a picture, enlarged where it is small, tinted with a class map; see :func:`overlay_classes`.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        labels: ``(H, W)``, 0 to 255.
        colours: Colour of label 0, 1, ...
        clear: Labels that stay untouched.
    """
    enlarged = magnify(picture, magnification(picture))
    size = (enlarged.shape[1], enlarged.shape[0])
    shown = cv2.resize(labels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return overlay_classes(enlarged, shown, colours, clear=clear)


def _mix(ground: np.ndarray, colour: np.ndarray, opacity: float) -> np.ndarray:
    return np.round((1 - opacity) * ground + opacity * colour).astype(np.uint8)


MOST_OBJECTS = 20_000  # more make a browser slow; the best-scored ones are kept and the page says so
_PLACES = 2  # decimals of a pixel


def write_html_map(
    path: Path,
    *,
    title: str,
    picture: np.ndarray,
    size: tuple[int, int],
    features: Features,
    reference: GeoReference,
    colours: Sequence[tuple[str, tuple[int, int, int]]],
) -> None:
    """Write the map; the file appears whole or not at all.

    Args:
        path: The file.
        title: Shown on top.
        picture: RGB overview ``(h, w, 3)``.
        size: Height and width of the scene in pixels.
        features: Objects in pixel edges; of too many, those with the best scores are shown.
        reference: Of the scene; with a CRS, coordinates and measures are shown.
        colours: Class names and colours.
    """
    total = len(features)
    if total > MOST_OBJECTS:
        order = np.argsort(-features.columns.get("score", np.zeros(total)), kind="stable")
        features = features.take(np.sort(order[:MOST_OBJECTS]))
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    content = {
        "width": size[1],
        "height": size[0],
        "total": total,
        "transform": reference.transform,
        "crs": reference.crs if reference.crs is not None and len(reference.crs) < 40 else None,
        "classes": [{"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*rgb)} for name, rgb in colours],
        "objects": _objects(features, reference),
    }
    text = json.dumps(content, separators=(",", ":")).replace("</", "<\\/")
    template = Path(__file__).with_name("html_map.html").read_text(encoding="utf-8")
    page = template.replace("@TITLE@", html.escape(title)).replace("@DATA@", text)
    page = page.replace("@PICTURE@", "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode())
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _objects(features: Features, reference: GeoReference) -> list[dict[str, Any]]:
    table = to_table(features, reference).drop(columns="geometry")
    objects = []
    for shape, row in zip(features.polygons, table.to_dict("records"), strict=True):
        rings = [
            np.round(shapely.get_coordinates(ring), _PLACES).ravel().tolist()
            for ring in shapely.get_rings(shape)
        ]
        values = {
            key: round(value, 3) if isinstance(value, float) else value
            for key, value in row.items()
            if value is not None and value == value  # not a number: not known
        }
        objects.append({"rings": rings, "values": values})
    return objects
