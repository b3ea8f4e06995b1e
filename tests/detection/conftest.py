"""A micro DOTA split drawn on the spot."""

import cv2
import numpy as np
import pytest

SHIP = "10 10 30 10 30 20 10 20 ship 0"


@pytest.fixture
def make_split(tmp_path):
    """Return a function that writes ``<root>/<split>/{images,labelTxt}`` and returns the root."""

    def make(labels, split="train", folder="labelTxt", suffix=".png"):
        images, texts = tmp_path / split / "images", tmp_path / split / folder
        images.mkdir(parents=True, exist_ok=True)
        texts.mkdir(exist_ok=True)
        for name, text in labels.items():
            image = np.full((48, 64, 3), 40, np.uint8)
            cv2.imwrite(str(images / f"{name}{suffix}"), image)
            if text is not None:
                (texts / f"{name}.txt").write_text(text)
        return tmp_path

    return make
