"""Full images with detections, as merging leaves them."""

import numpy as np

from rsfoundation.evaluation.oriented.image_results import ImageResult


def record(name, rows=(), size=(100, 120)):
    """Make a full image from rows ``(cx, cy, w, h, theta, score, label)``."""
    rows = np.array(rows, dtype=np.float64).reshape(-1, 7)
    none = np.zeros((0, 5)), np.zeros(0, np.int16), np.zeros(0, bool)
    scores = rows[:, 5].astype(np.float32)
    return ImageResult(name, f"{name}.png", size, rows[:, :5], scores, rows[:, 6].astype(np.int16), *none)
