"""Every backbone through torch.export and ONNX, outputs compared."""

import pytest
import torch
from backbone_golden import NETWORKS, assert_close, build_filled, image

SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}
TYPES = pytest.mark.parametrize("name", SMALLEST.values())


@pytest.mark.slow
@TYPES
def test_torch_export_computes_the_same(name):
    model, inputs = build_filled(name), image(name, (1, 3, 96, 128))
    program = torch.export.export(model, (inputs,))
    with torch.no_grad():
        for found, expected in zip(program.module()(inputs), model(inputs), strict=True):
            assert_close(found, expected)


@pytest.mark.slow
@TYPES
def test_onnx_computes_the_same(name, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, inputs = build_filled(name), image(name, (1, 3, 96, 128))
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (inputs,), path, dynamo=True, external_data=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    with torch.no_grad():
        for found, expected in zip(outputs, model(inputs), strict=True):
            assert_close(torch.from_numpy(found), expected)
