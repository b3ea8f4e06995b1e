"""Splits drawn for the tests, and what the log said."""

import logging

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def said(caplog):
    """The captured log of mmengine, which hands nothing on to the root logger."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def make_split(tmp_path):
    """Write ``<name>/images`` of noise, and ``labelTxt`` with the text of each image; ``None``: no file."""

    def make(name="full", size=(80, 100), **labels):
        folder = tmp_path / name
        for below in ("images", "labelTxt"):
            (folder / below).mkdir(parents=True)
        for image, text in labels.items():
            noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / "images" / f"{image}.png"), noise)
            if text is not None:
                (folder / "labelTxt" / f"{image}.txt").write_text(text)
        return folder

    return make
