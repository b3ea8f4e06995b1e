"""The overlap of two quads of any shape, as DOTA's devkit defines it, by another way."""

import numpy as np
import shapely


def winding_overlap(a, b):
    """Return the IoU of two quads as the integral of the product of their winding numbers, by shapely."""

    def triangles(quad):
        for place in (1, 2):
            corners = quad[[0, place, place + 1]]
            (ax, ay), (bx, by) = corners[1] - corners[0], corners[2] - corners[0]
            yield shapely.polygons(corners), (ax * by - ay * bx) / 2

    def sign(parts):
        return np.sign(sum(area for _, area in parts))

    first, second = list(triangles(a)), list(triangles(b))
    common = sum(
        np.sign(area) * np.sign(other_area) * shapely.area(shapely.intersection(polygon, other))
        for polygon, area in first
        for other, other_area in second
    )
    common *= sign(first) * sign(second)
    areas = [abs(sum(area for _, area in parts)) for parts in (first, second)]
    return common / (sum(areas) - common) if sum(areas) else 0.0
