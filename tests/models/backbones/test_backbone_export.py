"""Every backbone through torch.export and ONNX, outputs compared at sizes that need padding inside.

By default the smallest edition of each network is exported, and one also to ONNX; ``-m slow`` does all.
"""

import pytest
import torch
from backbone_golden import NETWORKS, assert_close, build_filled
from small_backbones import SMALL

from rsfoundation.registry import MODELS

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="the export needs torch 2.7 or newer"
)
SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}


def cases(quick):
    """Every network; those not in ``quick`` are slow."""
    names = [*NETWORKS, "rsmamba"]
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


def build(name):
    torch.manual_seed(0)
    model = MODELS.build(SMALL["rsmamba"]).eval() if name == "rsmamba" else build_filled(name)
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        return model, inputs, model(inputs)


@pytest.mark.parametrize("name", cases([*SMALLEST.values(), "rsmamba"]))
def test_torch_export_computes_the_same(name):
    model, inputs, expected = build(name)
    program = torch.export.export(model, (inputs,))
    operators = {str(node.target) for node in program.graph.nodes}
    assert not any("unpool" in name for name in operators), "ONNX has no such operator"
    with torch.no_grad():
        for found, wanted in zip(program.module()(inputs), expected, strict=True):
            assert_close(found, wanted)


@pytest.mark.parametrize("name", cases(["lsknet_t"]))
def test_onnx_computes_the_same(name, tmp_path):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="ONNX export: pip install rsfoundation[onnx]")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX runs: pip install rsfoundation[onnx]")
    model, inputs, expected = build(name)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (inputs,), path, dynamo=True, external_data=False, verbose=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    for found, wanted in zip(outputs, expected, strict=True):
        assert_close(torch.from_numpy(found), wanted)
