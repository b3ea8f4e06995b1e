"""Sliding windows: the results of mmseg, with the memory of a strip."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.segmentors.encoder_decoder import EncoderDecoder
from rsfoundation.registry import MODELS

CONFIG = dict(
    backbone=dict(type="rsfoundation.ShallowBackbone"),
    decode_head=dict(
        type="mmseg.FCNHead",
        in_channels=8,
        in_index=1,
        channels=8,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0,
        num_classes=4,
    ),
    data_preprocessor=dict(
        type="rsfoundation.SegDataPreProcessor", size_divisor=32, test_cfg=dict(size_divisor=32)
    ),
)


@MODELS.register_module()
class ShallowBackbone(nn.Module):
    """A backbone of one convolution, at stride 4."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 7, 4, 3)

    def forward(self, x):
        return (self.conv(x), self.conv(x))


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmseg")


def pair(**test_cfg):
    """mmseg's segmentor and ours with equal weights."""
    torch.manual_seed(0)
    config = {**CONFIG, "test_cfg": dict(mode="slide", crop_size=(64, 96), stride=(40, 50), **test_cfg)}
    theirs, ours = MMSegEncoderDecoder(**ConfigDict(config)), EncoderDecoder(**ConfigDict(config))
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def batch(height, width, count=2):
    torch.manual_seed(1)
    samples = [
        SegDataSample(metainfo=dict(ori_shape=(height, width), img_shape=(height, width)))
        for _ in range(count)
    ]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, height, width, dtype=torch.long))
    return dict(inputs=[torch.rand(3, height, width) for _ in range(count)], data_samples=samples)


SIZES = [(200, 333), (64, 96), (40, 50), (65, 97), (300, 60), (104, 146)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("together", [1, 3])
def test_logits_are_those_of_mmseg(size, together):
    theirs, ours = pair(window_batch=together)
    inputs = torch.rand(2, 3, *size)
    metas = [dict(ori_shape=size, img_shape=size) for _ in range(2)]
    with torch.no_grad():
        expected = theirs.slide_inference(inputs, [dict(meta) for meta in metas])
        torch.testing.assert_close(ours.slide_inference(inputs, metas), expected, atol=1e-5, rtol=1e-5)
    assert metas[0]["img_shape"] == size, "image info is left as it was"


@pytest.mark.parametrize("size", SIZES)
def test_class_maps_without_logits_are_those_of_mmseg(size):
    theirs, ours = pair(keep_logits=False)
    with torch.no_grad():
        expected, found = theirs.test_step(batch(*size)), ours.test_step(batch(*size))
    for one, other in zip(expected, found, strict=True):
        assert other.pred_sem_seg.data.shape == (1, *size) and "seg_logits" not in other
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data.long())


def test_resized_images_are_brought_back():
    theirs, ours = pair(keep_logits=False)
    for data in (first := batch(128, 160), second := batch(128, 160)):
        for sample in data["data_samples"]:
            sample.set_metainfo(dict(ori_shape=(64, 80)))
    with torch.no_grad():
        expected, found = theirs.test_step(first), ours.test_step(second)
    assert torch.equal(found[0].pred_sem_seg.data, expected[0].pred_sem_seg.data)
    assert found[0].pred_sem_seg.data.shape == (1, 64, 80)


def test_logits_are_kept_where_they_are_asked_for():
    _, ours = pair()
    with torch.no_grad():
        (sample, _) = ours.test_step(batch(100, 120))
    assert sample.seg_logits.data.shape == (4, 100, 120)


def test_finished_rows_take_no_memory_of_their_own():
    _, ours = pair(keep_logits=False)
    inputs = torch.rand(1, 3, 200, 333)
    with torch.no_grad():
        strips = [part for _, part in ours._strips(inputs, [dict(ori_shape=(200, 333))])]
    assert len(strips) > 1 and len({part.untyped_storage().data_ptr() for part in strips}) == 1


def test_windows_that_leave_gaps_are_refused():
    _, ours = pair()
    ours.test_cfg.stride = (40, 97)
    with torch.no_grad(), pytest.raises(ConfigError, match="leave gaps") as caught:
        ours.slide_inference(torch.rand(1, 3, 200, 333), [dict(ori_shape=(200, 333))])
    assert caught.value.where == "model.test_cfg.stride" and caught.value.fix
