"""Transforms of one image made transforms of both dates, with one draw of the random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

Results = dict[str, Any]


class SameDraw(BaseTransform):
    """Mixin before a single-image transform: runs it on each date from the same random state.

    Labels go through it with each date, so that a draw that looks at them (such as a crop that avoids
    one-class patches) comes out the same; those of the first run are kept.
    """

    def transform(self, results: Results) -> Results | None:
        """Transform both dates of ``results['img']`` and every label in ``seg_fields`` alike."""
        before, after = results["img"]
        state = np.random.get_state()
        first = super().transform({**results, "img": before})
        np.random.set_state(state)
        second = super().transform({**results, "img": after})
        if first is None or second is None:
            return None
        return {**first, "img": [first["img"], second["img"]]}


class OwnDraw(BaseTransform):
    """Mixin before a single-image transform that leaves labels alone: each date draws for itself."""

    def transform(self, results: Results) -> Results | None:
        """Transform each date of ``results['img']``."""
        single = super().transform
        return {**results, "img": [single({**results, "img": image})["img"] for image in results["img"]]}
