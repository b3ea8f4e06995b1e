"""Windows of images and scenes without labels."""

import numpy as np
import pytest

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.classification import UnlabelledImages
from rsfoundation.io.images import write_rgb

STEPS = [dict(type="rsfoundation.LoadImageFromFile", bands="all"), dict(type="rsfoundation.PackSceneInputs")]


@pytest.fixture
def archive(tmp_path):
    """A small image, and a scene of five bands whose left half holds no data."""
    import rasterio

    write_rgb(tmp_path / "small" / "one.png", np.full((40, 30, 3), 7, np.uint8))
    bands = np.full((5, 100, 200), 9, np.uint8)
    bands[:, :, :100] = 0
    bands[4, :, 150:] = 99
    profile = dict(driver="GTiff", width=200, height=100, count=5, dtype="uint8", nodata=0)
    (tmp_path / "scenes").mkdir()
    with rasterio.open(tmp_path / "scenes" / "big.tif", "w", **profile) as made:
        made.write(bands)
    return tmp_path


def test_scenes_are_read_window_by_window_where_they_hold_data(archive):
    dataset = UnlabelledImages(str(archive), inputs=["scenes"], window=50, pipeline=STEPS)
    windows = [dataset.get_data_info(index)["window"] for index in range(len(dataset))]
    assert windows == [(100, 0, 50), (150, 0, 50), (100, 50, 50), (150, 50, 50)]
    assert dataset.report.counts == {"windows without enough data": 4} and dataset.report.images == 1
    assert dataset[1]["inputs"].shape == (5, 50, 50)
    assert [dataset[index]["inputs"][4].unique().tolist() for index in (0, 1)] == [[9], [99]]
    assert len(UnlabelledImages(str(archive), inputs=["scenes"], window=50, min_valid=0, pipeline=STEPS)) == 8


def test_images_within_the_window_are_taken_whole(archive):
    dataset = UnlabelledImages(str(archive), window=100, pipeline=STEPS)
    shapes = [tuple(dataset[index]["inputs"].shape) for index in range(len(dataset))]
    assert shapes == [(5, 100, 100), (3, 40, 30)]
    narrow = UnlabelledImages(str(archive), inputs="small/*.png", window=35, pipeline=STEPS)
    assert [tuple(narrow[i]["inputs"].shape) for i in range(len(narrow))] == [(3, 30, 30)] * 2


def test_what_is_wrong_is_named(archive):
    (archive / "small" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        UnlabelledImages(str(archive), pipeline=STEPS)
    assert "broken.png" in str(caught.value.where) and "skip" in caught.value.fix
    dataset = UnlabelledImages(str(archive), on_error="skip", window=300, pipeline=STEPS)
    assert len(dataset) == 2 and dataset.report.files == {"unreadable images": ["broken.png"]}
    with pytest.raises(DataError, match="no such file"):
        UnlabelledImages(str(archive), inputs=["nothing/*.tif"], pipeline=STEPS)
    with pytest.raises(DataError, match="there are no images"):
        UnlabelledImages(str(archive / "none"), pipeline=STEPS)
    with pytest.raises(ConfigError, match="leave no step"):
        UnlabelledImages(str(archive), window=64, overlap=64, pipeline=STEPS)
