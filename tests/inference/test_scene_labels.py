import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from rsfoundation.core.task import Classes, Window
from rsfoundation.inference.label_maps import LabelMapAccumulator, SegmentationMap, probabilities
from rsfoundation.io.label_maps import LabelMap, write_grey_png, write_indexed_png

CLASSES = Classes(("ground", "roof"), ((0, 255, 0), (0, 0, 255)))


def test_logits_and_probabilities_of_one_channel_are_distinguished():
    logits = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    assert torch.allclose(probabilities(logits), logits.softmax(0))
    single = probabilities(torch.tensor([[[0.75]]]))
    assert single.flatten().tolist() == [0.25, 0.75]


def test_windows_become_the_class_map_of_the_scene():
    accumulator = LabelMapAccumulator(4, 8, CLASSES, SegmentationMap)
    for left, roof in ((0, -5.0), (4, 5.0)):
        logits = torch.stack([torch.zeros(4, 4), torch.full((4, 4), roof)])
        accumulator.add(Window(left, 0, 4, 4), SegDataSample(seg_logits=PixelData(data=logits)))
    result = accumulator.result()
    assert result.labels.tolist() == [[0] * 4 + [1] * 4] * 4
    assert result.areas() == {"ground": 16, "roof": 16} and result.shares()["roof"] == 0.5


def test_indexed_png_shows_colours_and_reads_as_indices(tmp_path):
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    write_indexed_png(labels, CLASSES.palette, tmp_path / "map.png")
    picture = Image.open(tmp_path / "map.png")
    np.testing.assert_array_equal(np.asarray(picture), labels)
    assert picture.convert("RGB").getpixel((1, 0)) == (0, 0, 255)


def test_files_appear_whole_with_nothing_left_next_to_them(tmp_path):
    write_grey_png(np.array([[0, 255]], np.uint8), tmp_path / "grey.png")
    assert np.asarray(Image.open(tmp_path / "grey.png")).tolist() == [[0, 255]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grey.png"]


def test_classes_that_do_not_occur_have_no_area():
    assert LabelMap(np.zeros((2, 2), np.uint8), CLASSES).areas() == {"ground": 4, "roof": 0}


def test_pixels_are_counted_once_however_often_areas_are_asked_for():
    class Rows:
        shape, read = (600, 4), 0

        def __getitem__(self, rows):
            self.read += 1
            return np.ones((len(range(*rows.indices(600))), 4), np.uint8)

    rows = Rows()
    result = LabelMap(rows, CLASSES)
    assert result.areas() == {"ground": 0, "roof": 2400} and result.shares()["roof"] == 1
    assert rows.read == 2
