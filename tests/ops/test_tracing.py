"""mmcv's layers under ``torch.jit.trace`` and the legacy ONNX exporter, which writes mmcv's own operators."""

import io

import mmcv.ops
import pytest
import torch
from torch import nn


class Call(nn.Module):
    def __init__(self, function, *args):
        super().__init__()
        self.function, self.args = function, args

    def forward(self, *tensors):
        return self.function(*tensors, *self.args)


def make(name):
    torch.manual_seed(0)
    layers = {
        "deformable": lambda: (mmcv.ops.DeformConv2dPack(2, 4, 3, 1, 1), "MMCVDeformConv2d"),
        "modulated": lambda: (mmcv.ops.ModulatedDeformConv2dPack(2, 4, 3, 1, 1), "MMCVModulatedDeformConv2d"),
        "aligned": lambda: (Call(mmcv.ops.rotated_feature_align), "MMCVRotatedFeatureAlign"),
        "aligned, 5 points": lambda: (
            Call(mmcv.ops.rotated_feature_align, 1 / 8, 5),
            "MMCVRotatedFeatureAlign",
        ),
        "pooled": lambda: (mmcv.ops.RoIAlignRotated(2, 1.0, 2), "MMCVRoIAlignRotated"),
        "upright": lambda: (mmcv.ops.RoIAlign(2, 1.0, 2), "RoiAlign"),
    }
    layer, node = layers[name]()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer, node


def inputs(name, batch=1, size=4):
    maps = torch.rand(batch, 2, size, size)
    if name.startswith("aligned"):
        return maps, torch.rand(batch, size, size, 5) * 8 * size
    if name in ("pooled", "upright"):
        return maps, torch.tensor([[0, 0.5, 0.5, 3.0, 2.0, 0.3]])[:, : 6 if name == "pooled" else 5]
    return (maps,)


NAMES = ["deformable", "modulated", "aligned", "aligned, 5 points", "pooled", "upright"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_traced_layer_computes_the_same_for_other_inputs(name):
    layer, _ = make(name)
    traced = torch.jit.trace(layer, inputs(name))
    for other in (inputs(name), inputs(name, 2, 6)):
        torch.testing.assert_close(traced(*other), layer(*other))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_the_legacy_exporter_writes_mmcv_s_operator(name, batch):
    onnx = pytest.importorskip("onnx")
    layer, node = make(name)
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(layer, inputs(name, batch), file, opset_version=16, dynamo=False)
    assert node in {entry.op_type for entry in onnx.load_from_string(file.getvalue()).graph.node}
