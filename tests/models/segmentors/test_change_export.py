"""Changer, BIT and A2Net through ONNX: one file for every size of pair, equal in onnxruntime."""

import pytest
import torch
from backbone_golden import assert_close

from rsfoundation.models.heads.changer_head import FDAF
from rsfoundation.registry import MODELS

_EX = [None, dict(type="SpatialExchange"), dict(type="ChannelExchange"), dict(type="ChannelExchange")]
_CE = dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True)
_HEAD = dict(num_classes=2, out_channels=2, loss_decode=_CE)
NETWORKS = {
    "changer": dict(
        type="DIEncoderDecoder",
        backbone=dict(
            type="InteractionBackbone", backbone=dict(type="LSKNet", arch="t"), interaction_cfg=_EX
        ),
        decode_head=dict(
            type="Changer",
            in_channels=[32, 64, 160, 256],
            in_index=[0, 1, 2, 3],
            channels=32,
            norm_cfg=dict(type="BN"),
            **_HEAD,
        ),
    ),
    "bit": dict(
        type="SiamEncoderDecoder",
        backbone=dict(type="LSKNet", arch="t"),
        neck=dict(type="FeatureFusionNeck", policy="concat", out_indices=[1]),
        decode_head=dict(type="BITHead", in_channels=64, **_HEAD),
    ),
    "a2net": dict(type="A2Net", backbone=dict(type="LWGANet", arch="l0"), mid=16),
}


class Logits(torch.nn.Module):
    """The network as an application calls it: a pair in, logits of the image's size out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pair):
        size = pair.shape[2:]
        return self.model.encode_decode(pair, [dict(img_shape=size, pad_shape=size)])


def build(name):
    torch.manual_seed(0)
    model = MODELS.build(NETWORKS[name])
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, 0, weight[0].numel() ** -0.5)
    model.eval()
    return Logits(model)


def run(path, pair):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX runs: pip install rsfoundation[onnx]")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: pair.numpy()})[0])


def draw_pair(model, size):
    """A pair, and the logits of it, that rounding does not change.

    LWGANet puts values back where 2x2 maxima were. Between near-equal values, rounding decides: in such a
    pair a value moves by a pixel from one runtime to another.
    """
    for _ in range(20):
        pair = torch.randn(1, 6, *size)
        expected = model(pair)
        rounded = [model(pair * (1 + 3e-6 * torch.randn_like(pair))) for _ in range(3)]
        if max((one - expected).abs().max() for one in rounded) < 1e-4 * expected.abs().max():
            return pair, expected
    raise AssertionError("every pair has near-equal maxima")


@pytest.fixture(autouse=True)
def _onnx():
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="ONNX export: pip install rsfoundation[onnx]")


CASES = [pytest.param(name, marks=() if name == "changer" else pytest.mark.slow) for name in NETWORKS]


@pytest.mark.parametrize("name", CASES)
def test_one_onnx_file_computes_the_same_at_every_size(name, tmp_path):
    model, path = build(name), tmp_path / "model.onnx"
    height, width = (torch.export.Dim(axis, min=2, max=64) for axis in ("height", "width"))
    with torch.no_grad():
        torch.onnx.export(
            model,
            (torch.randn(1, 6, 64, 96),),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=({2: 32 * height, 3: 32 * width},),
        )
        for size in ((64, 96), (128, 160)):
            pair, expected = draw_pair(model, size)
            assert_close(run(path, pair), expected)


@pytest.mark.parametrize("dynamo", [True, False])
def test_flow_alignment_keeps_no_size_in_the_graph(dynamo, tmp_path):
    """Its instance norm and its grid stop other exports of Changer at a size that is not fixed."""

    class Fusion(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.align = FDAF(8)

        def forward(self, both):
            return self.align(both[:, :8], both[:, 8:], "concat")

    fusion, path = Fusion().eval(), tmp_path / "fusion.onnx"
    height, width = (torch.export.Dim(axis, min=4, max=64) for axis in ("height", "width"))
    sizes = (
        dict(dynamic_shapes=({2: height, 3: width},), external_data=False, verbose=False)
        if dynamo
        else dict(dynamic_axes={"both": {2: "height", 3: "width"}}, input_names=["both"], opset_version=17)
    )
    with torch.no_grad():
        torch.onnx.export(fusion, (torch.randn(1, 16, 12, 10),), path, dynamo=dynamo, **sizes)
        larger = torch.randn(1, 16, 20, 14)
        assert_close(run(path, larger), fusion(larger))
