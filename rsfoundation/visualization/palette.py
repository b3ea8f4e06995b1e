"""Colours that stand out on aerial images: bright, saturated, and neither grass, soil nor asphalt."""

import colorsys

Colour = tuple[int, int, int]

_BASE: tuple[Colour, ...] = (
    (255, 64, 64),
    (0, 229, 255),
    (255, 214, 0),
    (255, 0, 200),
    (118, 255, 3),
    (255, 145, 0),
    (124, 128, 255),
    (29, 233, 182),
    (255, 138, 178),
    (213, 0, 249),
    (198, 255, 140),
    (64, 156, 255),
    (255, 224, 178),
    (224, 64, 100),
    (178, 235, 242),
    (174, 120, 255),
    (255, 110, 64),
    (0, 200, 83),
)
_GOLDEN = 0.618034  # successive hues by the golden ratio never come near each other


def palette(count: int) -> tuple[Colour, ...]:
    """Return ``count`` colours, always the same ones in the same order."""
    return _BASE[:count] + tuple(_spread(index) for index in range(count - len(_BASE)))


def _spread(index: int) -> Colour:
    saturation, value = ((0.9, 1.0), (0.55, 1.0), (0.8, 0.8))[index % 3]
    red, green, blue = colorsys.hsv_to_rgb((0.03 + index * _GOLDEN) % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
