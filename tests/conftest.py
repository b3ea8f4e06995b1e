"""What every test needs: no default scope left over from the test before, no time limits; small inputs."""

import sys

import cv2
import numpy as np
import pytest
from hypothesis import settings
from locations import SAMPLES
from raster_files import hide_rasterio

# A busy machine is no fault of the code; a hung test still ends by pytest-timeout.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _fresh_default_scope():
    """Runners set mmengine's default scope for the whole process; forget it after each test."""
    yield
    registry = sys.modules.get("mmengine.registry")
    if registry is not None:
        registry.DefaultScope._instance_dict.clear()


@pytest.fixture(params=["rasterio", "without rasterio"])
def raster_library(request, monkeypatch):
    """Run a test with rasterio, where it is installed, and as if it were not."""
    if request.param == "rasterio":
        pytest.importorskip("rasterio")
    else:
        hide_rasterio(monkeypatch)
    return request.param


@pytest.fixture
def tiny_config(tmp_path):
    """A config of the tiny task with its data."""
    from tiny_task import write_config

    return write_config(tmp_path)


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
