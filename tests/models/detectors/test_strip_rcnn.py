"""Strip R-CNN's head, the extractor with a margin, the neck that leaves out a level."""

import mmdet.models.necks as mmdet_necks
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmrotate.models.roi_heads import RotatedSingleRoIExtractor

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.oriented import EnlargingRoIExtractor, StripHead
from rsfoundation.models.necks.pafpn import CSPNeXtPAFPN

CODER = dict(type="DeltaXYWHTRBBoxCoder", angle_version="le90")
LAYER = dict(type="RoIAlignRotated", output_size=3, sampling_ratio=2, clockwise=True)
LINEAR = dict(type="mmdet.Linear")


def strip_head(**kwargs):
    init_default_scope("mmrotate")
    torch.manual_seed(0)
    fields = dict(
        in_channels=8,
        fc_out_channels=16,
        roi_feat_size=5,
        num_classes=4,
        predict_box_type="rbox",
        reg_class_agnostic=True,
        bbox_coder=CODER,
        reg_predictor_cfg=LINEAR,
        cls_predictor_cfg=LINEAR,
        loss_cls=dict(type="mmdet.CrossEntropyLoss"),
        loss_bbox=dict(type="mmdet.SmoothL1Loss"),
    )
    head = StripHead(**{**fields, **kwargs})
    head.init_weights()
    return head.eval()


def test_strip_head_computes_its_three_branches():
    head, x = strip_head(), torch.rand(3, 8, 5, 5)
    state = head.state_dict()

    def linear(name, value):
        return F.linear(value, state[f"{name}.weight"], state[f"{name}.bias"])

    def gate(value):
        kernels = {"conv0": (2, 2), "strip_conv1": (0, 9), "strip_conv2": (9, 0)}
        out = value
        for name, padding in kernels.items():
            weight, bias = state[f"strip.{name}.weight"], state[f"strip.{name}.bias"]
            out = F.conv2d(out, weight, bias, padding=padding, groups=8)
        return value * F.conv2d(out, state["strip.conv1.weight"], state["strip.conv1.bias"])

    flat = x.flatten(1)
    classes = linear("cls_fcs.1", linear("cls_fcs.0", flat).relu()).relu()
    angle = linear("angle_fcs.1", linear("angle_fcs.0", flat).relu()).relu()
    box = F.conv2d(x, state["reg_convs.0.conv.weight"], state["reg_convs.0.conv.bias"], padding=1).relu()
    scores, deltas = head(x)
    torch.testing.assert_close(scores, linear("fc_cls", classes))
    torch.testing.assert_close(deltas[:, :4], linear("fc_reg", gate(box).flatten(1)))
    torch.testing.assert_close(deltas[:, 4:], linear("fc_angle", angle))
    assert scores.shape == (3, 5) and deltas.shape == (3, 5)
    assert state["fc_reg.weight"].shape == (4, 8 * 25) and state["fc_angle.weight"].std() < 2e-3


@pytest.mark.parametrize(
    "wrong", [dict(reg_class_agnostic=False), dict(bbox_coder=dict(type="mmdet.DeltaXYWHBBoxCoder"))]
)
def test_strip_head_wants_one_box_of_five_numbers(wrong):
    with pytest.raises(ConfigError, match="one box of five numbers"):
        strip_head(**wrong)


def test_regions_have_a_margin():
    init_default_scope("mmrotate")
    parts = dict(roi_layer=ConfigDict(LAYER), out_channels=2, featmap_strides=[4, 8])
    ours, plain = EnlargingRoIExtractor(enlarge=(1.4, 1.2), **parts), RotatedSingleRoIExtractor(**parts)
    torch.manual_seed(0)
    maps = [torch.rand(1, 2, 32, 32), torch.rand(1, 2, 16, 16)]
    rois = torch.tensor([[0, 60.0, 64, 30, 20, 0.3], [0, 64, 60, 130, 110, -0.4], [0, 64, 64, 100, 100, 0.1]])
    wide = rois * torch.tensor([1, 1, 1, 1.4, 1.2, 1])
    found = ours(maps, rois)
    torch.testing.assert_close(found[:2], plain(maps, wide)[:2])
    # 100 px belong to the first level, 130 with the margin would to the second
    torch.testing.assert_close(found[2:], plain.roi_layers[0](maps[0], wide[2:]))
    torch.testing.assert_close(ours(maps[:1], rois), plain(maps[:1], wide))
    twice = ours(maps, rois, (2.0, 3.0))
    wider = wide * torch.tensor([1, 1, 1, 3.0, 2.0, 1])
    torch.testing.assert_close(twice[:1], plain.roi_layers[0](maps[0], wider[:1]))


def test_neck_leaves_out_the_first_map():
    channels = [4, 8, 16, 32]
    neck = CSPNeXtPAFPN(in_channels=channels, start_level=1, out_channels=8, num_csp_blocks=1).eval()
    plain = mmdet_necks.CSPNeXtPAFPN(in_channels=channels[1:], out_channels=8, num_csp_blocks=1).eval()
    plain.load_state_dict(neck.state_dict())
    maps = [torch.rand(1, width, 32 // 2**level, 32 // 2**level) for level, width in enumerate(channels)]
    for found, expected in zip(neck(maps), plain(tuple(maps[1:])), strict=True):
        torch.testing.assert_close(found, expected)
