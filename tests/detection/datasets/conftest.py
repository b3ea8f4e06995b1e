"""The real samples, where they lie beside the repository, and writers of tiny data sets."""

from pathlib import Path

import cv2
import numpy as np
import pytest

SAMPLES = Path(__file__).resolve().parents[3].parent / "shared" / "samples"


@pytest.fixture
def samples():
    if not SAMPLES.is_dir():
        pytest.skip("no sample data")
    return SAMPLES


@pytest.fixture
def draw():
    """Return a function that writes a grey image, making its folder."""

    def write(path, width=64, height=48):
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((height, width, 3), 40, np.uint8))
        return path

    return write


@pytest.fixture
def write():
    """Return a function that writes a text file, making its folder."""

    def text(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return text
