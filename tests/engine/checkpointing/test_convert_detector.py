"""Weights under the names of mmrotate 0.x become those of the shipped configs, and nothing else does.

The names and shapes of 0.x are written out here layer by layer.
"""

import json

import pytest
import torch
from locations import PARITY
from mmengine.config import Config
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.checkpointing.convert import FAMILIES, convert_detector, family_of, rename
from rsfoundation.engine.config import config_root
from rsfoundation.io.checkpoints import read_checkpoint

WIDE, CLASSES = 256, 15


def conv(name, out, channels=WIDE, kernel=(3, 3), bias=True):
    found = {f"{name}.weight": (out, channels, *kernel)}
    return {**found, f"{name}.bias": (out,)} if bias else found


def linear(name, out, channels):
    return {f"{name}.weight": (out, channels), f"{name}.bias": (out,)}


def published_backbone(name):
    """The backbone's own list, as its authors publish it."""
    table = json.loads((PARITY / f"backbones/{name}.keys.json").read_text())
    return {f"backbone.{key}": tuple(shape) for key, shape in table.items()}


def fpn(channels, start):
    """Feature pyramid: from the second map on with two strided levels more, or all four maps."""
    found = {}
    for level, width in enumerate(channels[start:]):
        found |= conv(f"neck.lateral_convs.{level}.conv", WIDE, width, (1, 1))
        found |= conv(f"neck.fpn_convs.{level}.conv", WIDE)
    if start:
        found |= conv("neck.fpn_convs.3.conv", WIDE, channels[-1])
        found |= conv("neck.fpn_convs.4.conv", WIDE)
    return found


def towers(name, depth, first_class_width=WIDE):
    found = {}
    for index in range(depth):
        found |= conv(f"{name}.cls_convs.{index}.conv", WIDE, WIDE if index else first_class_width)
        found |= conv(f"{name}.reg_convs.{index}.conv", WIDE)
    return found


def outputs(name, cls, reg, anchors=1):
    return conv(f"{name}.{cls}", anchors * CLASSES) | conv(f"{name}.{reg}", anchors * 5)


def s2anet(channels):
    found = fpn(channels, 1) | towers("fam_head", 2) | outputs("fam_head", "retina_cls", "retina_reg")
    for level in range(5):
        found |= conv(f"align_conv.ac.{level}.deform_conv", WIDE, bias=False)
    found |= {
        "odm_head.or_conv.weight": (WIDE // 8, WIDE, 1, 3, 3),
        "odm_head.or_conv.bias": (WIDE,),
        "odm_head.or_conv.indices": (1, 3, 3, 8),
    }
    return found | towers("odm_head", 2, WIDE // 8) | outputs("odm_head", "odm_cls", "odm_reg")


def r3det(channels):
    found = fpn(channels, 1) | towers("bbox_head", 4) | outputs("bbox_head", "retina_cls", "retina_reg", 9)
    for stage in range(2):
        found |= conv(f"feat_refine_module.{stage}.conv_5_1", WIDE, kernel=(5, 1))
        found |= conv(f"feat_refine_module.{stage}.conv_1_5", WIDE, kernel=(1, 5))
        found |= conv(f"feat_refine_module.{stage}.conv_1_1", WIDE, kernel=(1, 1))
        found |= towers(f"refine_head.{stage}", 4)
        found |= outputs(f"refine_head.{stage}", "retina_cls", "retina_reg")
    return found


def rpn(regression):
    found = conv("rpn_head.rpn_conv", WIDE) | conv("rpn_head.rpn_cls", 3, kernel=(1, 1))
    return found | conv("rpn_head.rpn_reg", 3 * regression, kernel=(1, 1))


def fc_head(name, regression):
    found = linear(f"{name}.shared_fcs.0", 1024, WIDE * 49) | linear(f"{name}.shared_fcs.1", 1024, 1024)
    return found | linear(f"{name}.fc_cls", CLASSES + 1, 1024) | linear(f"{name}.fc_reg", regression, 1024)


def oriented_rcnn(channels):
    return fpn(channels, 0) | rpn(6) | fc_head("roi_head.bbox_head", 5)


def strip_rcnn(channels):
    """Its box head has no shared layers: classes, box and angle are branches of their own."""
    name, found = "roi_head.bbox_head", {}
    for branch in ("cls_fcs", "reg_theta_fcs"):
        found |= linear(f"{name}.{branch}.0", 1024, WIDE * 49) | linear(f"{name}.{branch}.1", 1024, 1024)
    strip = f"{name}.reg_xy_wh_convs"
    found |= conv(f"{strip}.0.conv", WIDE) | conv(f"{strip}.1.conv1", WIDE, kernel=(1, 1))
    for part, kernel in (("conv0", (5, 5)), ("strip_conv1", (1, 19)), ("strip_conv2", (19, 1))):
        found |= conv(f"{strip}.1.{part}", WIDE, 1, kernel)  # depth-wise
    found |= linear(f"{name}.fc_cls", CLASSES + 1, 1024) | linear(f"{name}.fc_reg_theta", 1, 1024)
    return fpn(channels, 0) | rpn(6) | found | linear(f"{name}.fc_reg_xy_wh", 4, WIDE * 49)


def roi_transformer(channels):
    heads = fc_head("roi_head.bbox_head.0", 5) | fc_head("roi_head.bbox_head.1", 5 * CLASSES)
    return fpn(channels, 0) | rpn(4) | heads


def retinanet(channels):
    return fpn(channels, 1) | towers("bbox_head", 4) | outputs("bbox_head", "retina_cls", "retina_reg", 9)


S, T = [64, 128, 320, 512], [32, 64, 160, 256]
CASES = {
    "lsknet_s_s2anet_1x_dota_ms": ("lsknet_s", s2anet(S), "S2ANet"),
    "lsknet_t_s2anet_1x_dota_ms": ("lsknet_t", s2anet(T), "S2ANet"),
    "lsknet_s_r3det_1x_dota_ms": ("lsknet_s", r3det(S), "R3Det"),
    "lsknet_s_roi_transformer_1x_dota_ms": ("lsknet_s", roi_transformer(S), "RoI Transformer"),
    "stripnet_s_strip_rcnn_1x_dota_ms": ("stripnet_s", strip_rcnn(S), "Strip R-CNN"),
    "stripnet_t_strip_rcnn_1x_dota_ms": ("stripnet_t", strip_rcnn(T), "Strip R-CNN"),
    "lsknet_s_oriented_rcnn_1x_dota_ms": ("lsknet_s", oriented_rcnn(S), "two-stage detector"),
    "lsknet_t_rotated_retinanet_1x_dota_ss": ("lsknet_t", retinanet(T), "one-stage detector"),
    "lwganet_l2_oriented_rcnn_30e_dota_ss": (
        "lwganet_l2",
        oriented_rcnn([96, 192, 384, 768]),
        "two-stage detector",
    ),
}


def write(path, shapes, **more):
    """A checkpoint of that layout; every tensor one stored number, to stay small."""
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    torch.save({"meta": {"CLASSES": ("plane", "ship")}, "state_dict": state, **more}, path)
    return path


@pytest.mark.parametrize("config", CASES)
def test_names_of_0_become_exactly_the_models(config, tmp_path):
    backbone, head, family = CASES[config]
    source = write(tmp_path / "old.pth", published_backbone(backbone) | head)
    done = convert_detector(source, config, tmp_path / "new.pth")
    assert done.family == family and done.tensors == len(published_backbone(backbone)) + len(head)
    kept = ("neck.", "rpn_head.", "roi_head.bbox_head.cls_fcs.", "roi_head.bbox_head.fc_cls.")
    kept += () if family == "Strip R-CNN" else ("roi_head.",)
    changed = [key for key in head if not key.startswith(kept)]
    assert done.renamed == (len(changed) if family in ("S2ANet", "R3Det", "Strip R-CNN") else 0)
    assert read_checkpoint(done.output)["meta"]["dataset_meta"]["classes"] == ("plane", "ship")


def test_weights_themselves_are_untouched(tmp_path):
    shapes = published_backbone("lsknet_t") | s2anet(T)
    state = {
        key: torch.full((), float(place)).expand(shape) for place, (key, shape) in enumerate(shapes.items())
    }
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "old.pth")
    done = convert_detector(tmp_path / "old.pth", "lsknet_t_s2anet_1x_dota_ms", tmp_path / "new.pth")
    written = read_checkpoint(done.output)["state_dict"]
    pairs = {
        "fam_head.retina_reg.weight": "bbox_head_init.retina_reg.weight",
        "odm_head.odm_cls.bias": "bbox_head_refine.0.retina_cls.bias",
        "odm_head.or_conv.indices": "bbox_head_refine.0.or_conv.indices",
        "align_conv.ac.3.deform_conv.weight": "bbox_head_refine.0.feat_refine_module.ac.3.deform_conv.weight",
        "backbone.norm1.weight": "backbone.norm1.weight",
    }
    for old, new in pairs.items():
        torch.testing.assert_close(written[new], state[old])


def test_the_second_set_of_averaging_is_left_out(tmp_path):
    shapes = published_backbone("lsknet_s") | oriented_rcnn(S)
    averaged = {f"ema_{key.replace('.', '_')}": shape for key, shape in shapes.items()}
    source = write(tmp_path / "old.pth", shapes | averaged)
    done = convert_detector(source, "lsknet_s_ema_oriented_rcnn_1x_dota_ms", tmp_path / "new.pth")
    assert len(done.dropped) == len(shapes) == done.tensors


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: {**s, "align_conv.extra.weight": (1,)}, "1 unexpected: bbox_head_refine.0.feat"),
        (
            lambda s: {k: v for k, v in s.items() if "odm_reg" not in k},
            "2 missing: bbox_head_refine.0.retina_reg",
        ),
        (
            lambda s: {**s, "odm_head.odm_cls.bias": (37,)},
            r"1 of another shape: .*\(37,\) instead of \(15,\)",
        ),
    ],
)
def test_what_does_not_fit_is_listed(tmp_path, edit, message):
    source = write(tmp_path / "old.pth", edit(published_backbone("lsknet_t") | s2anet(T)))
    with pytest.raises(CheckpointError, match=message):
        convert_detector(source, "lsknet_t_s2anet_1x_dota_ms", tmp_path / "new.pth")
    assert not (tmp_path / "new.pth").exists()


def test_no_detector_and_no_file_type(tmp_path):
    source = write(tmp_path / "old.pth", {"head.weight": (1000, 512)})
    with pytest.raises(CheckpointError, match=r"no weights of a detector: head\.weight"):
        convert_detector(source, "lsknet_t_s2anet_1x_dota_ms", tmp_path / "new.pth")
    with pytest.raises(ConfigError, match="neither"):
        convert_detector(source, "lsknet_t_s2anet_1x_dota_ms", tmp_path / "new.onnx")


@pytest.mark.parametrize(
    ("config", "head", "change", "message"),
    [
        (
            "lsknet_t_s2anet_1x_dota_ms",
            s2anet,
            {"model.bbox_head_init.anchor_generator.angle_version": "le135"},
            "turn",
        ),
        (
            "lsknet_t_r3det_1x_dota_ms",
            r3det,
            {"model.bbox_head_init.bbox_coder": dict(type="DeltaXYWHTRBBoxCoder", angle_version="oc")},
            "OpenCVAngleCoder",
        ),
        ("lsknet_t_roi_transformer_1x_dota_ms", roi_transformer, "stds", "spreads"),
    ],
)
def test_configs_of_other_conventions_are_refused(tmp_path, config, head, change, message):
    cfg = Config.fromfile(config_root() / f"lsknet/{config}.py")
    if change == "stds":
        cfg.model.roi_head.bbox_head[1].bbox_coder.target_stds = (0.05, 0.05, 0.1, 0.1, 0.05)
    else:
        cfg.merge_from_dict(change)
    cfg.dump(tmp_path / "other.py")
    source = write(tmp_path / "old.pth", published_backbone("lsknet_t") | head(T))
    with pytest.raises(ConfigError, match=message):
        convert_detector(source, tmp_path / "other.py", tmp_path / "new.pth")


def test_first_rule_that_fits_renames():
    family = next(family for family in FAMILIES if family.name == "S2ANet")
    assert rename("odm_head.odm_reg.weight", family) == "bbox_head_refine.0.retina_reg.weight"
    assert rename("neck.odm_head.weight", family) == "neck.odm_head.weight"
    assert family_of(["backbone.a", "neck.b"]) is None


def test_console(tmp_path):
    source = write(tmp_path / "old.pth", published_backbone("lsknet_t") | s2anet(T))
    target = tmp_path / "new.pth"
    line = ["convert", "detector-0x", str(source), str(target), "-c", "lsknet_t_s2anet_1x_dota_ms"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert target.is_file()
