import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as mmdet_head
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from rsfoundation.models.heads.fcn_mask_head import FCNMaskHead

# an image file of 40 x 80 pixels, seen at twice its size and padded to a square
META = dict(ori_shape=(40, 80), img_shape=(160, 160), scale_factor=(2.0, 2.0), batch_input_shape=(160, 160))
CONFIG = ConfigDict(mask_thr_binary=0.5)


def masks_of(head, boxes):
    results = InstanceData(bboxes=torch.tensor(boxes), labels=torch.zeros(len(boxes), dtype=torch.long))
    logits = torch.full((len(boxes), 1, 28, 28), 4.0)
    (done,) = head.predict_by_feat((logits,), [results], [META], CONFIG, rescale=True)
    return done


@pytest.fixture
def heads():
    torch.manual_seed(0)
    own = FCNMaskHead(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=1)
    return own, mmdet_head(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=1)


def test_boxes_within_the_image_have_mmdets_masks(heads):
    boxes = [[20.0, 10.0, 60.0, 50.0], [0.0, 0.0, 160.0, 80.0]]
    ours, theirs = (masks_of(head, boxes) for head in heads)
    assert torch.equal(ours.masks, theirs.masks) and torch.equal(ours.bboxes, theirs.bboxes)
    assert ours.masks[0].sum() == 20 * 20


def test_boxes_in_the_padding_have_no_pixels_and_those_across_its_edge_end_there(heads):
    own, _ = heads
    done = masks_of(own, [[20.0, 120.0, 60.0, 150.0], [20.0, 60.0, 60.0, 120.0]])
    assert done.masks.shape == (2, 40, 80)
    assert done.masks[0].sum() == 0 and done.masks[1].sum() == 20 * 10
    assert done.bboxes[1].tolist() == [10.0, 30.0, 30.0, 40.0]


def test_weights_have_mmdets_names(heads):
    own, theirs = heads
    own.load_state_dict(theirs.state_dict())
