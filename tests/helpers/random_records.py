"""Random boxes that overlap now and then."""

import numpy as np


def random_boxes(count, seed, extent=300):
    rng = np.random.default_rng(seed)
    size = rng.uniform(4, 60, (count, 2))
    return np.column_stack([rng.uniform(0, extent, (count, 2)), size, rng.uniform(-1.5, 1.5, count)])


def random_records(make_record, images=5, found=60, objects=25, classes=3):
    rng = np.random.default_rng(0)
    return [
        make_record(
            f"i{k}",
            random_boxes(found, 2 * k),
            rng.random(found),
            rng.integers(0, classes, found),
            random_boxes(objects, 2 * k + 1),
            rng.integers(0, classes, objects),
        )
        for k in range(images)
    ]
