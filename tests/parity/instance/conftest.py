"""Fixtures that compare a module with the golden outputs of the published implementations."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

HERE = Path(__file__).parent


def _load_recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_fill", HERE.parent / "fill.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


RECIPE = _load_recipe()


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


@pytest.fixture
def golden_image() -> Callable[[str, Sequence[int]], torch.Tensor]:
    """The recipe's input tensor for a name and a shape."""
    return lambda name, shape: torch.from_numpy(RECIPE.image(name, tuple(shape)))


@pytest.fixture
def golden_meta() -> Callable[[str], dict]:
    """Constructor arguments and input names of a golden file."""
    return lambda name: json.loads(str(np.load(HERE / f"{name}.npz")["meta"]))


@pytest.fixture
def assert_keys() -> Callable[[str, nn.Module], None]:
    """Compare names and shapes of a state dict with the published ones."""

    def check(name: str, module: nn.Module) -> None:
        assert _shapes(module) == json.loads((HERE / f"{name}.keys.json").read_text())

    return check


@pytest.fixture
def load_recipe_weights() -> Callable[[nn.Module], nn.Module]:
    """Fill a module with the recipe's weights and put it in evaluation mode."""

    def load(module: nn.Module) -> nn.Module:
        weights = RECIPE.fill({key: tuple(shape) for key, shape in _shapes(module).items()})
        module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        return module.eval()

    return load


@pytest.fixture
def assert_outputs() -> Callable[[str, Sequence[torch.Tensor], float], None]:
    """Compare outputs, in order or by name, with a golden file, to ``tolerance`` times the largest value."""

    def check(
        name: str, outputs: Sequence[torch.Tensor] | Mapping[str, torch.Tensor], tolerance: float
    ) -> None:
        golden = np.load(HERE / f"{name}.npz")
        assert len(outputs) == sum(key.endswith(".shape") for key in golden)
        named = outputs if isinstance(outputs, Mapping) else {f"out{i}": x for i, x in enumerate(outputs)}
        for index, output in named.items():
            found = RECIPE.digest(output.detach().numpy())
            expected = {field: golden[f"{index}.{field}"] for field in found}
            assert found["shape"].tolist() == expected["shape"].tolist()
            for field in ("value", "mean", "std", "absmax"):
                worst = np.abs(found[field] - expected[field]).max() / expected["absmax"]
                assert worst <= tolerance, f"{name} output {index} {field}: {worst:.2e} x absmax"

    return check
