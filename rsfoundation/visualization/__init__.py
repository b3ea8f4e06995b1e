"""One picture style for every task: plain functions from RGB ``uint8`` arrays to RGB ``uint8`` arrays."""

from rsfoundation.visualization.overlays import (
    add_legend,
    class_entries,
    draw_boxes,
    draw_tags,
    magnification,
    magnify,
    magnify_and_tint,
    overlay_classes,
    overlay_masks,
    side_by_side,
)
from rsfoundation.visualization.palette import Colour, palette

__all__ = [
    "Colour",
    "add_legend",
    "class_entries",
    "draw_boxes",
    "draw_tags",
    "magnification",
    "magnify",
    "magnify_and_tint",
    "overlay_classes",
    "overlay_masks",
    "palette",
    "side_by_side",
]
