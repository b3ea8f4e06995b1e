"""Nothing but the one reading module unpickles."""

import ast

import pytest
from locations import ROOT

READER = {"rsfoundation/io/checkpoints.py"}
FORBIDDEN = {
    "torch.load",
    "torch.jit.load",
    "torch.hub.load_state_dict_from_url",
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "dill.load",
}


def unsafe_calls(source):
    """Return ``line: call`` of every call that unpickles, and of imports that would hide one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            allows = any(
                word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords
            )
            if name in FORBIDDEN or allows:
                found.append(f"{node.lineno}: {name}")
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [f"{node.lineno}: {name}" for name in sorted(names & FORBIDDEN)]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import pickle\npickle.loads(b'')",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
    ],
)
def test_the_gate_sees_them(source):
    assert unsafe_calls(source)


def test_no_file_unpickles():
    files = [path for part in ("rsfoundation", "tools", "projects") for path in (ROOT / part).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)): calls for path in files if (calls := unsafe_calls(path.read_text()))
    }
    assert set(found) <= READER, f"read checkpoints with rsfoundation.io.checkpoints.read_checkpoint: {found}"
