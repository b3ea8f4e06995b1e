import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from rsfoundation.models.heads.identity_head import DSIdentityHead, IdentityHead

ONE_CHANNEL = dict(
    num_classes=2,
    out_channels=1,
    threshold=0.5,
    loss_decode=dict(type="mmseg.CrossEntropyLoss", use_sigmoid=True),
)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope("rsfoundation"):
        yield


def test_the_selected_map_is_the_answer():
    head = IdentityHead(in_channels=1, in_index=-1, **ONE_CHANNEL)
    maps = torch.rand(2, 1, 1, 4, 4)
    assert torch.equal(head(maps), maps[1]) and not head.state_dict()


def test_every_map_is_supervised():
    head = DSIdentityHead(in_channels=[1, 1], in_index=[0, 1], **ONE_CHANNEL)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, 4, 4, dtype=torch.long)))
    losses = head.loss([torch.full((1, 1, 4, 4), value) for value in (-5.0, 5.0)], [sample], {})
    assert losses["aux_0_loss_ce"] > losses["aux_1_loss_ce"]
