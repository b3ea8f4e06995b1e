"""Cutting a scene into overlapping windows."""

from rsfoundation.data.tiling import window_starts
from rsfoundation.errors import ConfigError
from rsfoundation.task import Window


def window_grid(height: int, width: int, size: int, overlap: int) -> list[Window]:
    """Cover a scene with windows, row by row; the last of each row and column is shifted back inside.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        size: Side of a window; a smaller scene gets one window of its own size.
        overlap: Pixels that neighbouring windows share at least.

    Raises:
        ConfigError: The overlap leaves no step.
    """
    if not 0 <= overlap < size:
        raise ConfigError(
            f"windows of {size} px cannot overlap by {overlap} px",
            where="--overlap",
            cure=f"choose 0 to {size - 1}; an object's longest side is a good choice",
        )
    return [
        Window(left, top, min(size, width), min(size, height))
        for top in window_starts(height, size, size - overlap)
        for left in window_starts(width, size, size - overlap)
    ]
