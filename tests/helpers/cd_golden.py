"""Golden outputs of the official change detection code, and how they are compared."""

import importlib.util
import json

import numpy as np
import torch
from locations import PARITY

FOLDER = PARITY


def _fill_module():
    spec = importlib.util.spec_from_file_location("cd_parity_fill", FOLDER / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = _fill_module()


class Golden:
    """One golden file: its arguments, its keys, its outputs."""

    def __init__(self, name):
        self.data = np.load(FOLDER / "change" / f"{name}.npz")
        self.meta = json.loads(str(self.data["meta"]))
        self.keys = json.loads((FOLDER / "change" / f"{name}.keys.json").read_text())

    def inputs(self):
        """The input tensors by name."""
        return {
            name: torch.from_numpy(recipe.image(name, shape)) for name, shape in self.meta["inputs"].items()
        }

    def load(self, module):
        """Check keys and shapes, put the weights in, switch to eval mode."""
        state = {key: list(value.shape) for key, value in module.state_dict().items()}
        assert state == self.keys
        weights = recipe.fill({key: tuple(shape) for key, shape in self.keys.items()})
        module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        module.eval()  # mmseg's ResNet returns nothing
        return module

    def check(self, output, value, exact=False):
        """Compare one output with the stored digest."""
        value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, np.float32)
        assert list(value.shape) == self.data[f"{output}.shape"].tolist()
        mine = recipe.digest(value)
        tolerance = dict(rtol=0, atol=0) if exact else dict(rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(mine["index"], self.data[f"{output}.index"])
        np.testing.assert_allclose(mine["value"], self.data[f"{output}.value"], **tolerance, err_msg=output)
        np.testing.assert_allclose(mine["mean"], self.data[f"{output}.mean"], rtol=1e-3, atol=1e-4)


def metas(pair):
    """Metainfo of a batch whose images are neither padded nor resized."""
    shape = tuple(pair.shape[2:])
    return [dict(ori_shape=shape, img_shape=shape, pad_shape=shape, padding_size=[0] * 4) for _ in pair]
