"""Styles for QGIS, so that layers open in the colours of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

Colours = Sequence[tuple[str, tuple[int, int, int]]]
"""Class name and RGB colour of each class, in label order."""


def vector_style(colours: Colours, attribute: str = "class") -> str:
    """Return a QML style that colours polygons by a text attribute.

    Args:
        colours: Value and colour of each class.
        attribute: The attribute that holds the class.
    """
    return _document(_categories(colours, attribute))


def map_style(colours: Colours, attribute: str = "class") -> str:
    """Return a QML style of a class map, and of the polygons of the same name next to it.

    QGIS looks for ``NAME.qml`` whatever the kind of the layer: it takes the part for rasters or that for
    vectors, and passes over the other one.

    Args:
        colours: Name and colour of value 0, 1, ...
        attribute: The attribute of the polygons that holds the class.
    """
    return _document(_palette(colours) + _categories(colours, attribute))


def _document(symbology: str) -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis version="3.22.0" styleCategories="Symbology">{symbology}<blendMode>0</blendMode>'
        "<layerGeometryType>2</layerGeometryType></qgis>\n"
    )


def _categories(colours: Colours, attribute: str) -> str:
    categories = "".join(
        f'<category render="true" type="string" symbol="{index}" value={quoteattr(name)} '
        f"label={quoteattr(name)}/>"
        for index, (name, _) in enumerate(colours)
    )
    symbols = "".join(_polygon_symbol(index, colour) for index, (_, colour) in enumerate(colours))
    return (
        f'<renderer-v2 type="categorizedSymbol" attr={quoteattr(attribute)} enableorderby="0" '
        f'symbollevels="0" forceraster="0"><categories>{categories}</categories>'
        f"<symbols>{symbols}</symbols></renderer-v2>"
    )


def _palette(colours: Colours) -> str:
    entries = "".join(
        f'<paletteEntry value="{value}" color="{_hex(colour)}" alpha="255" label={quoteattr(name)}/>'
        for value, (name, colour) in enumerate(colours)
    )
    return (
        '<pipe><rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">'
        f"<rasterTransparency/><colorPalette>{entries}</colorPalette></rasterrenderer></pipe>"
    )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _polygon_symbol(index: int, colour: tuple[int, int, int]) -> str:
    fill = ",".join(map(str, (*colour, 90)))
    line = ",".join(map(str, (*colour, 255)))
    options = {
        "color": fill,
        "outline_color": line,
        "outline_style": "solid",
        "outline_width": "0.46",
        "outline_width_unit": "MM",
        "style": "solid",
    }
    values = "".join(
        f'<Option name="{key}" type="QString" value="{value}"/>' for key, value in options.items()
    )
    properties = "".join(f'<prop k="{key}" v="{value}"/>' for key, value in options.items())
    return (
        f'<symbol name="{index}" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">'
        '<layer class="SimpleFill" enabled="1" locked="0" pass="0">'
        f'<Option type="Map">{values}</Option>{properties}</layer></symbol>'
    )
