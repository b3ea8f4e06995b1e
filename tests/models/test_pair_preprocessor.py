import numpy as np
import pytest
import torch
from cd_golden import Golden, recipe
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from rsfoundation.models.preprocessors import DualInputSegDataPreProcessor

STANDARD = dict(
    mean=[123.675, 116.28, 103.53] * 2,
    std=[58.395, 57.12, 57.375] * 2,
    bgr_to_rgb=True,
    size_divisor=32,
    test_cfg=dict(size_divisor=32),
)


def sample(label, **fields):
    return SegDataSample(
        gt_sem_seg=PixelData(data=label),
        metainfo=dict(img_shape=tuple(label.shape[1:]), ori_shape=tuple(label.shape[1:])),
        **{name: PixelData(data=value) for name, value in fields.items()},
    )


@pytest.fixture
def pair():
    values = np.clip(64 * recipe.image("pair", (6, 40, 50)) + 128, 0, 255).astype(np.uint8)
    label = (recipe.image("gt", (1, 40, 50)) > 0).astype(np.int64)
    return torch.from_numpy(values), torch.from_numpy(label)


def test_training_batch_equals_official_output(pair):
    golden = Golden("cd_preprocessor")
    image, label = pair
    batch = dict(inputs=[image, image.flip(2)], data_samples=[sample(label.clone()), sample(label.flip(2))])
    packed = DualInputSegDataPreProcessor(**STANDARD)(batch, training=True)
    golden.check("train_inputs", packed["inputs"])
    golden.check("train_gt", packed["data_samples"][0].gt_sem_seg.data, exact=True)
    golden.check("train_padding", np.array(packed["data_samples"][0].padding_size), exact=True)


def test_test_batch_equals_official_output(pair):
    golden = Golden("cd_preprocessor")
    image, label = pair
    packed = DualInputSegDataPreProcessor(**STANDARD)(dict(inputs=[image], data_samples=[sample(label)]))
    golden.check("test_inputs", packed["inputs"])
    golden.check("test_padding", np.array(packed["data_samples"][0].img_padding_size), exact=True)


def test_statistics_are_no_weights():
    assert not DualInputSegDataPreProcessor(**STANDARD).state_dict()


def test_colours_are_swapped_within_each_date():
    values = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1).expand(6, 32, 32)
    preprocessor = DualInputSegDataPreProcessor(bgr_to_rgb=True)
    for _ in range(2):  # of the second batch as well
        packed = preprocessor(dict(inputs=[values]))
        assert packed["inputs"][0, :, 0, 0].tolist() == [2, 1, 0, 5, 4, 3]


def test_dates_of_other_bands_keep_their_order():
    values = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1).expand(8, 32, 32)
    packed = DualInputSegDataPreProcessor(bgr_to_rgb=True)(dict(inputs=[values]))
    assert packed["inputs"][0, :, 0, 0].tolist() == list(range(8))


def test_several_test_pairs_of_one_size_make_a_batch(pair):
    image, label = pair
    batch = dict(inputs=[image, image], data_samples=[sample(label), sample(label)])
    assert DualInputSegDataPreProcessor(**STANDARD)(batch)["inputs"].shape == (2, 6, 64, 64)


def test_semantic_labels_are_padded_like_the_change_label(pair):
    image, label = pair
    both = sample(label, gt_sem_seg_from=label.clone(), gt_sem_seg_to=label.clone())
    batch = dict(inputs=[image], data_samples=[both])
    padded = DualInputSegDataPreProcessor(**STANDARD)(batch, training=True)["data_samples"][0]
    for field in ("gt_sem_seg_from", "gt_sem_seg_to"):
        assert torch.equal(padded.get(field).data, padded.gt_sem_seg.data)


def test_colours_of_every_batch_are_swapped():
    """The second batch of pairs comes in the model's colour order as the first one does."""
    preprocess = DualInputSegDataPreProcessor(mean=[0.0] * 6, std=[1.0] * 6, bgr_to_rgb=True)
    pair = torch.arange(6.0).view(6, 1, 1).expand(6, 4, 4)
    for _ in range(3):
        inputs = preprocess(dict(inputs=[pair], data_samples=None))["inputs"]
        assert inputs[0, :, 0, 0].tolist() == [2, 1, 0, 5, 4, 3]
