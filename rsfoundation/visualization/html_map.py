"""An interactive map in one HTML file that needs no network: the picture, the objects, a legend, pop-ups."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely

from rsfoundation.core.files import replacing
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import Features, to_table

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
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
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
