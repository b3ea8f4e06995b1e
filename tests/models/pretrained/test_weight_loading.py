"""Published checkpoints in their wrappers, prefixes and other names; tables and stems of other sizes."""

import argparse
import sys
from types import ModuleType

import pytest
import torch
from backbone_golden import NETWORKS, assert_close, build_filled, image
from torch import nn

from rsfoundation.core.errors import CheckpointError
from rsfoundation.models.pretrained import loading as weight_reading
from rsfoundation.models.pretrained.loading import (
    load_checkpoint,
    load_state,
    resize_bias_table,
    spread_bands,
)
from rsfoundation.registry import MODELS

CLASSIFIER = {"head.weight": torch.zeros(10, 256), "head.bias": torch.zeros(10)}


@pytest.fixture(scope="module")
def lsknet():
    return build_filled("lsknet_t")


def save(folder, content):
    path = folder / "weights.pth"
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "state_dict_ema", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_every_wrapper_and_prefix(tmp_path, lsknet, wrapper, prefix):
    state = {prefix + key: value for key, value in {**lsknet.state_dict(), **CLASSIFIER}.items()}
    content = {wrapper: state, "epoch": 3, "args": argparse.Namespace(lr=1)} if wrapper else state
    model = MODELS.build(NETWORKS["lsknet_t"])
    report = load_checkpoint(model, save(tmp_path, content))
    assert report.skipped == tuple(CLASSIFIER) and not report.missing and not report.resized
    assert all(torch.equal(value, lsknet.state_dict()[key]) for key, value in model.state_dict().items())


def test_only_the_backbone_of_a_detector_is_taken(tmp_path, lsknet):
    state = {f"backbone.{key}": value for key, value in lsknet.state_dict().items()}
    state["bbox_head.norm1.weight"] = torch.zeros(32)
    report = load_checkpoint(MODELS.build(NETWORKS["lsknet_t"]), save(tmp_path, {"state_dict": state}))
    assert not report.skipped and not report.missing


def test_a_checkpoint_of_another_network_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="nothing in the checkpoint fits LSKNet"):
        load_checkpoint(MODELS.build(NETWORKS["lsknet_t"]), save(tmp_path, {"conv9.weight": torch.zeros(3)}))


def test_a_file_without_weights_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_checkpoint(MODELS.build(NETWORKS["lsknet_t"]), save(tmp_path, {"epoch": 1}))


class Evil:
    def __reduce__(self):
        return eval, ("1/0",)


def test_code_in_a_checkpoint_is_refused(tmp_path, lsknet):
    with pytest.raises(CheckpointError, match="more than weights"):
        load_checkpoint(lsknet, save(tmp_path, {"state_dict": lsknet.state_dict(), "x": Evil()}))


def test_a_checkpoint_cut_short_is_an_error(tmp_path, lsknet):
    path = tmp_path / "weights.pth"
    torch.save(lsknet.state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(lsknet, str(path))


class Node(dict):
    """As yacs makes it: a dict with attributes."""


def test_settings_pickled_beside_the_weights_do_not_hinder(tmp_path, lsknet, monkeypatch):
    """RSP's files hold a yacs node, whose package is not needed to read them."""
    Node.__module__, Node.__qualname__, Node.__name__ = "yacs.config", "CfgNode", "CfgNode"
    settings = Node(TRAIN=Node(LR=0.1))
    settings.__dict__["__immutable__"] = True
    package = ModuleType("yacs.config")
    package.CfgNode = Node
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", package)
        path = save(tmp_path, {"model": dict(lsknet.state_dict()), "config": settings})
    assert not load_checkpoint(MODELS.build(NETWORKS["lsknet_t"]), path).missing


def test_mmdet_swin_loads_and_computes_the_same():
    from mmdet.models.backbones import SwinTransformer

    theirs = SwinTransformer(strides=(4, 2, 2, 2))
    theirs.eval()  # returns nothing
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.05)
    ours = MODELS.build(NETWORKS["rsp_swin_t"]).eval()
    report = load_state(ours, weight_reading.translate("RSPSwinTransformer", dict(theirs.state_dict())))
    assert not report.missing and not report.resized
    assert all(name.endswith("relative_position_index") for name in report.skipped)
    inputs = torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        for found, expected in zip(ours(inputs), theirs(inputs), strict=True):
            assert_close(found, expected)


def test_torchvision_resnet_loads_and_computes_the_same():
    from torchvision.models import resnet50

    theirs = resnet50().eval()
    ours = MODELS.build(NETWORKS["rsp_resnet50"]).eval()
    report = load_state(ours, dict(theirs.state_dict()))
    assert report.skipped == ("fc.weight", "fc.bias") and not report.missing
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(inputs))))
        for stage, found in enumerate(ours(inputs)):
            x = getattr(theirs, f"layer{stage + 1}")(x)
            assert_close(found, x)


def test_bias_tables_of_another_window_are_resized():
    model = MODELS.build(NETWORKS["rsp_swin_t"])
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    constant = torch.arange(3.0).expand(23 * 23, 3)
    report = load_state(model, {key: constant})
    assert report.resized == (key,)
    torch.testing.assert_close(model.state_dict()[key], torch.arange(3.0).expand(169, 3))
    table = torch.randn(169, 3)
    torch.testing.assert_close(resize_bias_table(table, 169), table)
    assert resize_bias_table(torch.randn(170, 3), 169) is None


@pytest.mark.parametrize("name", ["lsknet_t", "lwganet_l0", "rsp_resnet50", "rsp_swin_t", "vitaev2_s"])
@pytest.mark.parametrize("bands", [4, 6])
def test_bands_that_repeat_rgb_give_what_rgb_gives(name, bands):
    rgb = build_filled(name)
    wide = MODELS.build({**NETWORKS[name], "in_channels": bands}).eval()
    report = load_state(wide, dict(rgb.state_dict()))
    assert report.resized and not report.missing
    inputs = image(name, (1, 3, 64, 64))
    with torch.no_grad():
        for found, expected in zip(wide(inputs[:, torch.arange(bands) % 3]), rgb(inputs), strict=True):
            assert_close(found, expected)


@pytest.mark.parametrize("bands", [1, 2])
def test_fewer_bands_keep_the_answer_to_a_grey_image(bands):
    weight, grey = torch.randn(4, 3, 3, 3), torch.randn(1, 1, 8, 8)
    expected = nn.functional.conv2d(grey.repeat(1, 3, 1, 1), weight)
    found = nn.functional.conv2d(grey.repeat(1, bands, 1, 1), spread_bands(weight, bands))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_init_cfg_loads_and_keeps_a_report(tmp_path, lsknet):
    state = dict(lsknet.state_dict())
    del state["norm4.weight"]
    init_cfg = dict(type="Pretrained", checkpoint=save(tmp_path, state))
    model = MODELS.build({**NETWORKS["lsknet_t"], "init_cfg": init_cfg})
    model.init_weights()
    assert model.load_report.missing == ("norm4.weight",)
    assert torch.equal(model.patch_embed1.proj.weight, lsknet.patch_embed1.proj.weight)
    assert torch.equal(model.norm4.weight, torch.ones(256))


def test_init_cfg_prefix_picks_a_part(tmp_path, lsknet):
    state = {f"teacher.{key}": value for key, value in lsknet.state_dict().items()}
    init_cfg = dict(type="Pretrained", checkpoint=save(tmp_path, state), prefix="teacher.")
    model = MODELS.build({**NETWORKS["lsknet_t"], "init_cfg": init_cfg})
    model.init_weights()
    assert not model.load_report.missing
