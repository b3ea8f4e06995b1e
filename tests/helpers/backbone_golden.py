"""The published networks under the names of their golden files, and the recipe that fills them."""

import importlib.util
import json

import numpy as np
import torch
from locations import PARITY
from torch import nn

from rsfoundation.registry import MODELS

FOLDER = PARITY / "backbones"
NETWORKS = {
    "lsknet_t": dict(type="LSKNet", arch="t"),
    "lsknet_s": dict(type="LSKNet", arch="s"),
    "stripnet_t": dict(type="StripNet", arch="t"),
    "stripnet_s": dict(type="StripNet", arch="s"),
    "lwganet_l0": dict(type="LWGANet", arch="l0"),
    "lwganet_l1": dict(type="LWGANet", arch="l1"),
    "lwganet_l2": dict(type="LWGANet", arch="l2"),
    "rsp_resnet50": dict(type="RSPResNet", depth=50),
    "rsp_swin_t": dict(type="RSPSwinTransformer", arch="t"),
    "vitaev2_s": dict(type="ViTAEv2", arch="s"),
}
CASES = sorted(path.name.removesuffix(".npz") for path in FOLDER.glob("*.npz"))


def _load_recipe():
    spec = importlib.util.spec_from_file_location("backbone_parity_fill", PARITY / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = _load_recipe()


def shapes(module: nn.Module) -> dict[str, list[int]]:
    """Names and shapes of a state dict, in order."""
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def golden_keys(name: str) -> dict[str, list[int]]:
    """Names and shapes of the published state dict, in order."""
    return json.loads((FOLDER / f"{name}.keys.json").read_text())


def build_filled(name: str, kept: tuple[str, ...] = (), **arguments) -> nn.Module:
    """Build a network with the recipe's weights, in evaluation mode; buffers named in ``kept`` stay."""
    model = MODELS.build({**NETWORKS[name], **arguments})
    weights = recipe.fill({key: tuple(shape) for key, shape in shapes(model).items()})
    fixed = ("relative_position_index", *kept)
    weights = {key: torch.from_numpy(value) for key, value in weights.items() if not key.endswith(fixed)}
    result = model.load_state_dict(weights, strict=False)
    assert all(key.endswith(fixed) for key in result.missing_keys)
    return model.eval()


def image(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The recipe's input."""
    return torch.from_numpy(recipe.image(name, shape))


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Compare to ``tolerance`` times the largest expected value."""
    assert found.shape == expected.shape
    worst = ((found - expected).abs().max() / expected.abs().max()).item()
    assert worst <= tolerance, f"{worst:.2e} of absmax"


def assert_golden(case: str, outputs: tuple[torch.Tensor, ...]) -> None:
    """Compare stage maps with a golden file: 1e-4 of the largest value at every stage."""
    golden = np.load(FOLDER / f"{case}.npz")
    assert len(outputs) == sum(key.endswith("_shape") and key.startswith("out") for key in golden)
    for index, output in enumerate(outputs):
        found = recipe.digest(output.detach().numpy())
        assert found["shape"].tolist() == golden[f"out{index}_shape"].tolist()
        for field in ("value", "mean", "std", "absmax"):
            worst = np.abs(found[field] - golden[f"out{index}_{field}"]).max()
            assert worst <= 1e-4 * golden[f"out{index}_absmax"], f"{case} stage {index} {field}: {worst:.2e}"
