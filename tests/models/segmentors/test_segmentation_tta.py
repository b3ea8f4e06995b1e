"""Views of an image: what is done to it is undone in its map."""

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.segmentors.test_time_augmentation import SegmentationTTA

VIEWS = dict(scales=(1.0,), flips=(None, "horizontal", "vertical", "diagonal"), rotations=(0, 90, 180, 270))


class Pixelwise(BaseModel):
    """The logits are the channels of the image, whatever is around; ``tilt`` makes them depend on the row."""

    def __init__(self, tilt=0.0):
        super().__init__(data_preprocessor=dict(type="mmengine.ImgDataPreprocessor"))
        self.tilt, self.seen = tilt, []

    def inference(self, inputs, metas):
        assert metas[0]["img_shape"] == tuple(inputs.shape[2:])
        self.seen.append(tuple(inputs.shape[2:]))
        rows = torch.arange(inputs.shape[2]).float()[None, None, :, None]
        return inputs.float() + self.tilt * rows * torch.tensor([1.0, 0, 0])[None, :, None, None]

    def postprocess_result(self, logits, samples):
        return [SegDataSample(seg_logits=PixelData(data=one)) for one in logits]

    def forward(self, inputs, data_samples=None, mode="tensor"):
        raise NotImplementedError


def image(height=64, width=96):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, height, width)).astype(np.float32))


def look(module, picture, **options):
    (sample,) = SegmentationTTA(module, **options).test_step(
        dict(inputs=[picture], data_samples=[SegDataSample()])
    )
    return sample.seg_logits.data


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_flips_and_turns_are_undone(average):
    picture, module = image(), Pixelwise()
    merged = look(module, picture, average=average, **VIEWS)
    torch.testing.assert_close(merged.softmax(0), picture.softmax(0), atol=1e-6, rtol=1e-5)
    assert len(module.seen) == 16 and set(module.seen) == {(64, 96), (96, 64)}


def test_views_are_averaged():
    picture = image()
    plain = Pixelwise(0.1).inference(picture[None], [dict(img_shape=(64, 96))])[0]
    flipped = Pixelwise(0.1).inference(picture[None].flip(2), [dict(img_shape=(64, 96))])[0].flip(1)
    merged = look(Pixelwise(0.1), picture, flips=(None, "vertical"))
    expected = (plain.softmax(0) + flipped.softmax(0)) / 2
    torch.testing.assert_close(merged.softmax(0), expected, atol=1e-6, rtol=1e-5)
    mean = look(Pixelwise(0.1), picture, flips=(None, "vertical"), average="logits")
    torch.testing.assert_close(mean, (plain + flipped) / 2, atol=1e-5, rtol=1e-5)


def test_scales_come_back_to_the_size_of_the_image():
    module = Pixelwise()
    smooth = torch.linspace(0, 1, 96).expand(3, 64, 96).contiguous()
    merged = look(module, smooth, scales=(0.5, 1.0, 1.5), flips=(None,), average="logits")
    assert (
        module.seen == [(32, 64), (64, 96), (96, 160)]
        or module.seen == [(32, 32), (64, 96), (96, 160)]
        or (module.seen == [(32, 64), (64, 96), (96, 128)])
    )
    assert merged.shape == smooth.shape
    torch.testing.assert_close(merged, smooth, atol=0.02, rtol=0)


def test_a_single_map_of_probabilities_of_change_is_averaged():
    class Single(Pixelwise):
        def inference(self, inputs, metas):
            return super().inference(inputs, metas)[:, :1]

    picture = image()
    merged = look(Single(), picture, flips=(None, "horizontal"))
    torch.testing.assert_close(merged.sigmoid(), picture[:1].sigmoid(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "bad", [dict(flips=("upside",)), dict(rotations=(45,)), dict(scales=(0,)), dict(average="votes")]
)
def test_unknown_views_are_refused(bad):
    with pytest.raises(ConfigError):
        SegmentationTTA(Pixelwise(), **bad)
