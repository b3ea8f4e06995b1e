"""Put published weights into a backbone, and say what was loaded, resized, skipped and missing."""

import math
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn import functional as F

from rsfoundation.backbones.weight_files import resolve
from rsfoundation.backbones.weight_reading import State, read_state, strip_prefix, translate
from rsfoundation.errors import CheckpointError

_RGB = 3
_NAMES_SHOWN = 8
# Computed from the window size by the model itself.
_DERIVED = ("relative_position_index", "relative_coords_table", "attn_mask")


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's entries.

    Attributes:
        loaded: Names taken as they were.
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
        checkpoint: File, link or name, as :func:`rsfoundation.backbones.weight_files.resolve` takes it.
        prefix: Take only entries whose name starts so (after ``module.`` and ``backbone.``), without it.

    Raises:
        CheckpointError: It cannot be found or read, or nothing of it fits the model.
    """
    path = resolve(checkpoint)
    state = read_state(path)
    state = strip_prefix(state, prefix) or state
    report = load_state(model, translate(type(model).__name__, state))
    if not report.loaded and not report.resized:
        raise CheckpointError(
            f"nothing in the checkpoint fits {type(model).__name__}: {report.summary()}",
            where=path,
            cure="check that it was made for this architecture and size",
        )
    print_log(f"{type(model).__name__} from {path.name}: {report.summary()}", logger="current")
    return report


def load_state(model: nn.Module, state: State) -> LoadReport:
    """Load what fits of ``state``, resizing position tables and stems, and report the rest."""
    own = model.state_dict()
    loaded, resized, skipped, taken = [], [], [], {}
    for key, value in state.items():
        if key not in own or key.endswith(_DERIVED):
            skipped.append(key)
        elif value.shape == own[key].shape:
            taken[key] = value
            loaded.append(key)
        elif (fitted := fit(key, value, own[key].shape)) is not None:
            taken[key] = fitted
            resized.append(key)
        else:
            skipped.append(key)
    model.load_state_dict(taken, strict=False)
    counters = ("num_batches_tracked", *_DERIVED)
    missing = tuple(key for key in own if key not in taken and not key.endswith(counters))
    return LoadReport(tuple(loaded), tuple(resized), tuple(skipped), missing)


def fit(key: str, value: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Bring a tensor to another shape where there is a known way; ``None`` where there is not."""
    if key.endswith("relative_position_bias_table") and value.shape[1:] == shape[1:]:
        return resize_bias_table(value, shape[0])
    stem = value.ndim == 4 and value.shape[1] == _RGB
    if stem and value.shape[0] == shape[0] and value.shape[2:] == shape[2:]:
        return spread_bands(value, shape[1])
    return None


def resize_bias_table(table: torch.Tensor, rows: int) -> torch.Tensor | None:
    """Resample a table of relative positions, ``(S * S, heads)``, to ``(rows, heads)``, bicubically."""
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
    """
    if bands < _RGB:
        return weight.mean(1, keepdim=True).repeat(1, bands, 1, 1) * (_RGB / bands)
    colour = torch.arange(bands) % _RGB
    shared = torch.bincount(colour, minlength=_RGB).to(weight.dtype)
    return weight[:, colour] / shared[colour][:, None, None]
