"""Scores and coordinates of one detection: what a server reads out of their texts."""

from math import isfinite

from rsfoundation.detection.submission.faults import Finding

_FARTHEST = 1e6  # pixels; DOTA's largest images have under 30 000, and boxes reach little over the edge
_LEAST_AREA = 1e-6


def bad_score(text: str) -> str | None:
    """Say what is wrong with a score, if anything is."""
    try:
        score = float(text) if _is_plain(text) else None
    except ValueError:
        score = None
    if score is None:
        return f"the score {text[:100]!r} is no number"
    return None if 0 <= score <= 1 else f"the score {text[:100]} is outside 0..1"


def numbers(fields: list[str]) -> list[float] | None:
    """Return finite numbers, or ``None`` where a field is none."""
    if not _is_plain("".join(fields)):
        return None
    try:
        values = list(map(float, fields))
    except ValueError:
        return None
    return values if all(map(isfinite, values)) else None


def _is_plain(text: str) -> bool:
    """Whether it holds nothing that only Python takes for a number: ``1_0``, digits of other scripts."""
    return text.isascii() and "_" not in text


def bad_corners(corners: list[float]) -> Finding | None:
    """Say what is wrong with ``x1 y1 x2 y2 x3 y3 x4 y4``, if anything is."""
    if area(corners) >= _LEAST_AREA:
        return None
    what = "the corners enclose no area, or cross each other"
    return Finding("no area", what, "take the box out, or order its corners")


def too_far(values: list[float]) -> Finding | None:
    """Say which coordinate lies beyond any image, if one does."""
    if max(map(abs, values)) <= _FARTHEST:
        return None
    what = f"the coordinate {max(values, key=abs):g} lies beyond any image; expected pixels of the full image"
    return Finding("far coordinate", what, "take the box out: a detector that makes such boxes has diverged")


def repeated(first: int) -> Finding:
    """Say that a box stands in an earlier line too."""
    what = f"the same box stands in line {first} already: each repetition counts as a wrong detection"
    cure = "suppress overlapping boxes of a class: `rsf test --format-only` does"
    return Finding("repeated box", what, cure)


def area(corners: list[float]) -> float:
    """Return the area within ``x1 y1 x2 y2 x3 y3 x4 y4``; 0 for crossed or collinear ones."""
    points = list(zip(corners[0::2], corners[1::2], strict=True))

    def turn(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    halves, others = (turn(0, 1, 2), turn(0, 2, 3)), (turn(1, 2, 3), turn(1, 3, 0))
    # each diagonal of a crossed one has both triangles on one side of it
    crossed = halves[0] * halves[1] < 0 and others[0] * others[1] < 0
    return 0.0 if crossed else abs(sum(halves)) / 2
