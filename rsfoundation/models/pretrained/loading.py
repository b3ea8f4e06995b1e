"""Put published weights into a backbone, and say what was loaded, resized, skipped and missing."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import CheckpointError
from rsfoundation.io.checkpoints import read_checkpoint
from rsfoundation.models.pretrained.download import resolve

State = dict[str, torch.Tensor]
_WRAPPERS = ("state_dict_ema", "state_dict", "model")
_PREFIXES = ("module.", "backbone.")


def read_state(path: Path, prefixes: Sequence[str] = _PREFIXES) -> State:
    """Read the weights of a checkpoint file without running code from it.

    Weights are at the top, or under ``state_dict``, ``state_dict_ema`` or ``model``.

    Args:
        path: The file.
        prefixes: Where some names start with one of these, only those are returned, without it.

    Returns:
        Tensors by name.

    Raises:
        CheckpointError: The file is broken, holds more than weights and settings, or no weights.
    """
    content = read_checkpoint(path)
    state = _tensors(_unwrap(content))
    if not state:
        raise CheckpointError("the checkpoint holds no weights", where=path)
    for prefix in prefixes:
        state = strip_prefix(state, prefix) or state
    return state


def strip_prefix(state: State, prefix: str) -> State:
    """Return the entries whose name starts with ``prefix``, without it.

    Args:
        state: Tensors by name.
        prefix: Start of the names to keep.
    """
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _unwrap(content: Any) -> Any:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            return content[wrapper]
    return content


def _tensors(content: Any) -> State:
    if not isinstance(content, Mapping):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _from_mmseg_swin(state: State) -> State:
    """Rename MMSegmentation's and MMDetection's Swin, and put merged tokens in the order of the original."""
    names: list[tuple[str, str]] = [
        (r"^stages\.", "layers."),
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"\.attn\.w_msa\.", ".attn."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    ]
    out = {}
    for key, value in state.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        out[key] = _merge_order(value) if ".downsample." in key else value
    return out


def _merge_order(value: torch.Tensor) -> torch.Tensor:
    """Channel-major 2x2 phases, row by row, to phase-major ones, column by column, on the last dimension."""
    phases = value.unflatten(-1, (-1, 2, 2))
    return phases.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


# Backbone type -> (a name that gives another naming away, the translation).
_TRANSLATIONS: Mapping[str, tuple[str, Callable[[State], State]]] = {
    "RSPSwinTransformer": ("patch_embed.projection.weight", _from_mmseg_swin)
}


def translate(backbone: str, state: State) -> State:
    """Return the state under the published names, whichever naming it came in.

    Args:
        backbone: Registered type of the network.
        state: Tensors under published or other names.
    """
    clue, function = _TRANSLATIONS.get(backbone, ("", dict))
    return function(state) if clue in state else state


_RGB = 3
_NAMES_SHOWN = 8
# Computed from the window size by the model itself.
_DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask")


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's entries.

    Attributes:
        loaded: Names taken unchanged.
        resized: Names taken after resizing a position table or spreading an RGB stem over bands.
        skipped: Names in the file that the model has not, or has in another shape.
        missing: Names in the model that the file has not; they keep their initial values.
    """

    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    def summary(self) -> str:
        """Return one line of counts, with the first names of what was left out."""
        counts = f"{len(self.loaded)} loaded, {len(self.resized)} resized"
        return f"{counts}, {_listed('skipped', self.skipped)}, {_listed('missing', self.missing)}"


def _listed(what: str, names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def load_checkpoint(model: nn.Module, checkpoint: str, prefix: str = "") -> LoadReport:
    """Load a published checkpoint into a backbone.

    Args:
        model: The backbone.
        checkpoint: File, link or name, as :func:`rsfoundation.models.pretrained.download.resolve` takes it.
        prefix: Take only entries whose name starts so (after ``module.`` and ``backbone.``), without it.

    Raises:
        CheckpointError: It cannot be found or read, or nothing of it fits the model.
    """
    path = resolve(checkpoint)
    state = read_state(path)
    state = strip_prefix(state, prefix) or state
    report = load_state(model, to_own_names(model, state, path))
    check_anything_fits(model, report, path)
    print_log(f"{type(model).__name__} from {path.name}: {report.summary()}", logger="current")
    return report


def to_own_names(model: nn.Module, state: State, path: Path) -> State:
    """Return a state under the names of a network, whichever naming it came in.

    Args:
        model: The network; its ``translate_checkpoint`` is called if it has one.
        state: Tensors by name.
        path: Checkpoint that they come from, for the message.

    Raises:
        CheckpointError: The names are none that the network knows.
    """
    own = getattr(model, "translate_checkpoint", None)
    try:
        return translate(type(model).__name__, state) if own is None else own(state)
    except CheckpointError as error:
        raise CheckpointError(error.what, where=path, fix=error.fix) from error


def check_anything_fits(model: nn.Module, report: LoadReport, path: Path) -> None:
    """Refuse a checkpoint of which nothing was loaded.

    Args:
        model: The network.
        report: Of loading.
        path: The checkpoint, for the message.

    Raises:
        CheckpointError: Nothing was loaded.
    """
    if not report.loaded and not report.resized:
        raise CheckpointError(
            f"nothing in the checkpoint fits {type(model).__name__}: {report.summary()}",
            where=path,
            fix="check that it was made for this architecture and size",
        )


def split_init_cfg(init_cfg: Any) -> tuple[list[Any], list[Any]]:
    """Return the steps of an ``init_cfg`` that are for MMEngine, and its ``Pretrained`` ones."""
    given = init_cfg or []
    steps = [given] if isinstance(given, Mapping) else list(given)
    pretrained = [step for step in steps if step["type"] == "Pretrained"]
    return [step for step in steps if step["type"] != "Pretrained"], pretrained


class PublishedModule(BaseModule):
    """A module of MMEngine whose ``Pretrained`` weights are read in their published formats.

    Subclasses may define ``translate_checkpoint(state)``, which brings names to their own, and
    ``fit_checkpoint(key, value)``, which brings a tensor to their shape or returns None.

    Args:
        init_cfg: Initialisation as MMEngine reads it, such as ``dict(type='Pretrained', checkpoint=...)``.

    Attributes:
        load_report: Report of the checkpoint that ``init_cfg`` names, once it is loaded.
    """

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        self.init_cfg: Any
        self.load_report: LoadReport | None = None

    def init_scratch(self) -> None:
        """Initialise before any checkpoint; by default as the constructor did."""

    def init_weights(self) -> None:
        """Initialise from scratch, then by ``init_cfg``; keys missing in a checkpoint stay as they are."""
        self.init_scratch()
        given = self.init_cfg or []
        self.init_cfg, pretrained = split_init_cfg(given)
        super().init_weights()
        self.init_cfg = given
        for step in pretrained:
            self.load_report = load_checkpoint(self, step["checkpoint"], step.get("prefix") or "")


def load_state(model: nn.Module, state: State) -> LoadReport:
    """Load what fits of ``state``, resizing position tables and stems, and report the rest.

    Args:
        model: The network.
        state: Tensors under its names.
    """
    own = model.state_dict()
    loaded, resized, skipped, taken = [], [], [], {}
    for key, value in state.items():
        if key not in own or key.endswith(_DERIVED):
            skipped.append(key)
        elif value.shape == own[key].shape:
            taken[key] = value
            loaded.append(key)
        elif (fitted := _fit(model, key, value, own[key].shape)) is not None:
            taken[key] = fitted
            resized.append(key)
        else:
            skipped.append(key)
    model.load_state_dict(taken, strict=False)
    counters = ("num_batches_tracked", *_DERIVED)
    missing = tuple(key for key in own if key not in taken and not key.endswith(counters))
    return LoadReport(tuple(loaded), tuple(resized), tuple(skipped), missing)


def _fit(model: nn.Module, key: str, value: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Bring a tensor to another shape: by the model's own ``fit_checkpoint``, or in a way known to all."""
    own = getattr(model, "fit_checkpoint", None)
    fitted = None if own is None else own(key, value)
    return fit(key, value, shape) if fitted is None else fitted


def fit(key: str, value: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Bring a tensor to another shape where there is a known way; ``None`` where there is not.

    Args:
        key: Name of the tensor.
        value: The tensor.
        shape: The shape that the network has.
    """
    if key.endswith("relative_position_bias_table") and value.shape[1:] == shape[1:]:
        return resize_bias_table(value, shape[0])
    stem = value.ndim == 4 and value.shape[1] == _RGB
    if stem and value.shape[0] == shape[0] and value.shape[2:] == shape[2:]:
        return spread_bands(value, shape[1])
    return None


def resize_bias_table(table: torch.Tensor, rows: int) -> torch.Tensor | None:
    """Resample a table of relative positions, ``(S * S, heads)``, to ``(rows, heads)``, bicubically.

    Args:
        table: ``(S * S, heads)``.
        rows: Rows of the result, a square number.
    """
    old, new = math.isqrt(len(table)), math.isqrt(rows)
    if old * old != len(table) or new * new != rows:
        return None
    image = table.T.reshape(1, -1, old, old).float()
    resized = F.interpolate(image, size=(new, new), mode="bicubic")
    return resized.reshape(-1, rows).T.to(table.dtype)


def spread_bands(weight: torch.Tensor, bands: int) -> torch.Tensor:
    """Spread the RGB weights of a first convolution over another number of bands.

    From three bands on, band ``i`` gets the weights of colour ``i % 3``, divided by the number of bands that
    share it: an image that repeats R, G and B over its bands gives what the RGB image gives. Fewer bands
    get the mean colour, scaled so that a grey image gives what it gives as RGB.

    Args:
        weight: ``(out, 3, height, width)``.
        bands: Bands of the result.
    """
    if bands < _RGB:
        return weight.mean(1, keepdim=True).repeat(1, bands, 1, 1) * (_RGB / bands)
    colour = torch.arange(bands) % _RGB
    shared = torch.bincount(colour, minlength=_RGB).to(weight.dtype)
    return weight[:, colour] / shared[colour][:, None, None]
