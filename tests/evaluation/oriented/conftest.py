"""Records written by hand."""

import numpy as np
import pytest

from rsfoundation.evaluation.oriented.image_results import ImageResult


@pytest.fixture
def make_record():
    """Return a function that makes the record of one image from rows of boxes."""

    def make(name, found=(), scores=(), labels=(), truth=(), truth_labels=(), ignored=(), path=None):
        truth = np.array(truth, np.float32)
        ignored = np.array(ignored, bool) if len(ignored) else np.zeros(len(truth), bool)
        return ImageResult(
            name=name,
            path=f"images/{name}.png" if path is None else path,
            size=(100, 100),
            boxes=np.array(found, np.float32).reshape(-1, 5),
            scores=np.array(scores, np.float32),
            labels=np.array(labels, np.int16),
            truth=truth if truth.ndim == 2 else truth.reshape(-1, 5),
            truth_labels=np.array(truth_labels, np.int16),
            ignored=ignored,
        )

    return make
