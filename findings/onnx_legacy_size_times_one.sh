#!/usr/bin/env bash
# torch 2.13.0, legacy ONNX exporter (torch.onnx.export(..., dynamo=False)), Python 3.11, onnx 1.23.2.
#
# An autograd function with a `symbolic` is exported as one node. Its `forward` is recorded as well, and the
# exporter's clean-up of that record fails on a size of a tensor that is multiplied by the number 1 (or on a
# tensor made of numbers alone, `torch.arange(3)`), although nothing of it is written to the file:
#
#   size * 2: exported
#   size * 1: IndexError: Argument passed to at() was not in the map.
#
# Multiplications by 1 come from arguments: `height * width * points` with points=1. Compute such a number
# without the factor, or keep the forward in compiled code.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" torch==2.13.0 numpy onnx==1.23.2
cat > "$folder/export.py" <<'PYTHON'
import io
import warnings

import torch

warnings.simplefilter("ignore")


def export(factor):
    class Scale(torch.autograd.Function):
        @staticmethod
        def symbolic(graph, x):
            return graph.op("custom::Scale", x)

        @staticmethod
        def forward(ctx, x):
            return x + x.shape[1] * factor

    class Model(torch.nn.Module):
        def forward(self, x):
            return Scale.apply(x)

    try:
        with torch.no_grad():
            torch.onnx.export(Model(), torch.rand(2, 3), io.BytesIO(), opset_version=17, dynamo=False)
    except IndexError as error:
        return f"IndexError: {error}"
    return "exported"


for factor in (2, 1):
    print(f"size * {factor}: {export(factor)}")
PYTHON
"$folder/venv/bin/python" "$folder/export.py" 2>/dev/null | grep "^size" | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
size * 2: exported
size * 1: IndexError: Argument passed to at() was not in the map.
EXPECTED
