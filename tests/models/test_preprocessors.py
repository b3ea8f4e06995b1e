"""Preprocessors for any number of bands."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmseg.structures import SegDataSample

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.preprocessors import DetDataPreprocessor, SegDataPreProcessor
from rsfoundation.registry import MODELS

KINDS = [(SegDataPreProcessor, SegDataSample), (DetDataPreprocessor, DetDataSample)]


def batch(kind, bands):
    sample = kind(metainfo=dict(img_shape=(8, 6), ori_shape=(8, 6)))
    return dict(inputs=[torch.arange(bands).view(-1, 1, 1).expand(bands, 8, 6)], data_samples=[sample])


@pytest.mark.parametrize(("kind", "sample"), KINDS)
@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_every_band_is_normalised_in_its_place(kind, sample, bands):
    made = MODELS.build(
        dict(
            type=kind,
            mean=[float(b) - 1 for b in range(bands)],
            std=[b + 1.0 for b in range(bands)],
            bgr_to_rgb=True,
        )
    )
    inputs = made(batch(sample, bands))["inputs"]
    assert inputs.shape == (1, bands, 8, 6)
    assert torch.allclose(inputs[0, :, 0, 0], torch.tensor([1 / (b + 1) for b in range(bands)]))
    assert not made.state_dict()


@pytest.mark.parametrize(("kind", "sample"), KINDS)
def test_three_bands_are_turned(kind, sample):
    made = kind(mean=[10.0, 20.0, 30.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=True)
    for _ in range(2):
        assert made(batch(sample, 3))["inputs"][0, :, 0, 0].tolist() == [-8, -19, -30]
    free = kind(bgr_to_rgb=True)
    for bands, first in ((5, 0), (3, 2), (5, 0), (3, 2)):
        assert free(batch(sample, bands))["inputs"][0, 0, 0, 0] == first, (
            "one batch leaves no trace on the next"
        )


@pytest.mark.parametrize(("kind", "sample"), KINDS)
def test_images_of_another_number_of_bands_are_refused_with_the_fix(kind, sample):
    with pytest.raises(ConfigError, match="5 bands, and the model's mean and std have 3") as caught:
        kind(mean=[1.0] * 3, std=[1.0] * 3)(batch(sample, 5))
    assert "image_loading=dict(bands=(...))" in caught.value.fix and "in_channels" in caught.value.fix
    with pytest.raises(ConfigError, match="mean has 3 values and std 2"):
        kind(mean=[1.0] * 3, std=[1.0] * 2)
    assert kind()(batch(sample, 5))["inputs"].shape[1] == 5, "nothing is normalised: any number will do"
