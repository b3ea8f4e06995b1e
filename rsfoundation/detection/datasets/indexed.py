"""Reading a folder of patches from its index."""

import os
from pathlib import Path

from rsfoundation.detection.datasets.scan import Picture, Scan
from rsfoundation.detection.patch_index import PatchIndex
from rsfoundation.errors import DataError


def scan_of_index(folder: Path, index: PatchIndex, *, needs_labels: bool) -> Scan:
    """Return the patches and objects of an index as a data set reads them.

    Args:
        folder: Of the index.
        index: What it says; checked to be of the folder as it is.
        needs_labels: Whether a folder without labels is an error.

    Raises:
        DataError: Labels are needed and there are none.
    """
    if needs_labels and not index.labels:
        raise DataError(
            "no labels, and training needs them",
            where=folder,
            cure="cut a split with labelTxt/ beside images/",
        )
    base = str(folder)
    place = {path: f"{base}/{path}" for path in {*index.images, *index.labels}}
    if index.virtual:  # sources lie elsewhere: '..' in their paths
        place = {path: os.path.normpath(full) for path, full in place.items()}
    labels = index.labels or (None,) * len(index.names)
    windows = map(tuple, index.windows.tolist()) if index.virtual else (None,) * len(index.names)
    rows = zip(index.names, index.images, labels, map(tuple, index.sizes.tolist()), windows, strict=True)
    pictures = tuple(
        Picture(name, place[image], place[label] if label else None, size, window)
        for name, image, label, size, window in rows
    )
    return Scan(pictures, index.table)
