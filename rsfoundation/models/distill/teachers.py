"""Teachers of a distillation: frozen encoders, Hugging Face's among them, and features read from a cache."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.io.feature_cache import FeatureCache
from rsfoundation.models.classifiers import recognition_backbone
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.models.encoders.sam_vit import SAMViT
from rsfoundation.registry import MODELS


def encoder_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of an encoder that returns the map to align: the neck's of SAM, else the last one.

    Args:
        config: Of any backbone, such as the shipped files define; of a pyramid over a plain encoder the
            encoder is taken.
    """
    chosen = recognition_backbone(config)
    kind = MODELS.get(chosen["type"])
    if isinstance(kind, type) and issubclass(kind, SAMViT):
        chosen.pop("out_indices", None)
    return chosen


def encode(
    network: nn.Module, images: torch.Tensor, blocks: Collection[int] = ()
) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Return the last map ``(N, C, h, w)`` of an encoder and those of inner blocks.

    Args:
        network: A plain encoder, or any backbone that returns a tuple of maps.
        images: ``(N, bands, H, W)``.
        blocks: Numbers of blocks of a plain encoder, or indices of the maps of another backbone.
    """
    if not isinstance(network, PlainEncoder):
        maps = network(images)
        return maps[-1], {index: maps[index] for index in blocks}
    last = len(network.layers) - 1
    states, _ = network.run_layers(images, {*blocks, last})
    grid = network.token_grid(images.shape[2:])
    levels = {index: network.to_map(states[index], grid) for index in blocks}
    if getattr(network, "uses_neck", False):
        return network.run_neck(states[last]), levels
    return network.to_map(states[last], grid), levels


class FrozenTeacher:
    """A frozen network outside of the model that it serves; its weights are loaded at their first use.

    It is neither saved nor optimised, and copies of the model (EMA) share it.

    Args:
        config: Of a backbone with ``init_cfg``, of :class:`HuggingFaceEncoder` or :class:`CachedFeatures`.
        seed: Seed of random weights; the generators of the run are left as they are.

    Attributes:
        network: The network; its weights are there after :meth:`load`.
        hash: Hash of the loaded weights, see :func:`weights_hash`; empty before.
    """

    def __init__(self, config: Mapping[str, Any], seed: int = 0) -> None:
        kind = MODELS.get(config["type"])
        other = isinstance(kind, type) and issubclass(kind, (CachedFeatures, HuggingFaceEncoder))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network: Any = MODELS.build(dict(config) if other else encoder_config(config))
            self._random_state = torch.get_rng_state()
        self.network.eval().requires_grad_(False)
        self.hash = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTeacher:
        """Return itself."""
        return self

    def load(self) -> Any:
        """Load the weights at the first call; return the network."""
        if self.hash:
            return self.network
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.WARNING)  # mmengine prints three lines for every weight
        try:
            with torch.random.fork_rng():
                torch.set_rng_state(self._random_state)
                self.network.init_weights()
        finally:
            logger.setLevel(level)
        self.hash = weights_hash(self.network)
        return self.network


def weights_hash(network: nn.Module) -> str:
    """Return the SHA-256 of names, types and values of all weights, in hex."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@MODELS.register_module()
class HuggingFaceEncoder(BaseModule):
    """Any vision encoder of ``transformers``: DINOv2, CLIP's and SigLIP's vision towers, ConvNeXt and others.

    Args:
        name: Name on the hub or folder; weights are loaded by ``transformers``.
        config: Fields of a config with ``model_type``, for random weights, where there is no name.
        init_cfg: MMEngine's.

    Attributes:
        out_channels: Channels of the map.

    Raises:
        ConfigError: ``transformers`` is missing, neither name nor config is given, or nothing can be loaded.
    """

    def __init__(
        self, name: str | None = None, config: Mapping[str, Any] | None = None, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        try:
            from transformers import AutoConfig, AutoModel
        except ImportError as error:
            raise ConfigError(
                "HuggingFaceEncoder needs transformers, which is not installed",
                where="model.teacher",
                fix="pip install 'rsfoundation[hf]'",
            ) from error
        if (name is None) == (config is None):
            raise ConfigError("give one of name and config", where="HuggingFaceEncoder")
        if name is not None:
            try:
                network = AutoModel.from_pretrained(name)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"{name} cannot be loaded by transformers: {str(error).splitlines()[0]}",
                    where="model.teacher.name",
                    fix="a folder that save_pretrained wrote, or a name on the hub: hf download NAME",
                ) from error
        else:
            fields = dict(config or {})
            network = AutoModel.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
        self.network = getattr(network, "vision_model", network)  # the image half of CLIP and SigLIP
        described = self.network.config
        self.patch = getattr(described, "patch_size", 1)
        sizes = getattr(described, "hidden_sizes", None)
        self.out_channels = (sizes[-1] if sizes else described.hidden_size,)
        accepted = inspect.signature(self.network.forward).parameters
        self._options = {name: True for name in ("interpolate_pos_encoding",) if name in accepted}

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return one map ``(N, C, h, w)``; class and register tokens are left out.

        Position tables are resampled to the size of the images where the encoder can do that.

        Args:
            images: ``(N, 3, H, W)``, normalised as the encoder expects.

        Raises:
            ConfigError: The encoder refuses the size of the images.
        """
        try:
            output = self.network(images, **self._options).last_hidden_state
        except ValueError as error:
            raise ConfigError(
                f"the encoder refuses images of {images.shape[2]} x {images.shape[3]}: {error}",
                where="model.teacher",
                fix="crop to the size of its config",
            ) from error
        if output.ndim == 4:
            return (output,)
        rows, columns = (side // self.patch for side in images.shape[2:])
        patches = output[:, output.shape[1] - rows * columns :]
        return (patches.transpose(1, 2).unflatten(2, (rows, columns)).contiguous(),)


@MODELS.register_module()
class CachedFeatures(BaseModule):
    """A teacher whose maps were computed before, by ``rsf prepare features``.

    Args:
        root: Folder of the cache.
        teacher: Config of the teacher it must come from; its weights are hashed once at the start. None
            trusts the cache.
        init_cfg: Not used.

    Attributes:
        out_channels: Channels of the maps.
    """

    def __init__(self, root: str, teacher: Mapping[str, Any] | None = None, init_cfg: Any = None) -> None:
        super().__init__(None)
        self.cache = FeatureCache(Path(root))
        self.expected = None if teacher is None else dict(teacher)
        self.out_channels = (int(self.cache.description["channels"]),)

    def check(self, seed: int, preprocessing: Mapping[str, Any]) -> str:
        """Check that the cache fits a run.

        Args:
            seed: Seed of random weights of the teacher.
            preprocessing: Of the run, see :func:`preprocessing_of`.

        Returns:
            The hash of the teacher's weights.

        Raises:
            DataError: It was made with another teacher or preprocessing.
        """
        wanted: dict[str, Any] = dict(preprocessing=dict(preprocessing))
        if self.expected is not None:
            teacher = FrozenTeacher(self.expected, seed)
            teacher.load()
            wanted["teacher"] = teacher.hash
        self.cache.require(wanted)
        return str(self.cache.description["teacher"])

    def forward(self, keys: Sequence[str]) -> tuple[torch.Tensor, ...]:
        """Return one map ``(N, C, h, w)`` of images by their keys."""
        return (torch.stack([torch.from_numpy(self.cache.read(key)) for key in keys]),)


def preprocessing_of(preprocessor: nn.Module) -> dict[str, Any]:
    """Return how a data preprocessor changes images, in plain values."""
    found: dict[str, Any] = {"swap_colours": bool(getattr(preprocessor, "_channel_conversion", False))}
    for name in ("mean", "std"):
        value = getattr(preprocessor, name, None)
        found[name] = None if value is None else [round(float(one), 6) for one in value.flatten()]
    return found


def fold_targets(
    network: nn.Module, state: Mapping[str, torch.Tensor], mean: torch.Tensor, deviation: torch.Tensor
) -> dict[str, torch.Tensor] | None:
    """Return the weights of a student whose map is in the units of its teacher; None where none can be.

    The last layer of SAM's encoder and of RSMamba is a norm with weight and bias, which takes the statistics
    exactly.

    Args:
        network: The student.
        state: Its weights.
        mean: Of each channel of the targets, ``(1, C, 1, 1)``.
        deviation: Likewise.
    """
    if isinstance(network, SAMViT) and network.neck_name == "neck":
        last = "neck.layer_norm2"
    elif isinstance(network, PlainEncoder) and isinstance(getattr(network, "ln1", None), nn.LayerNorm):
        last = "ln1"
    else:
        return None
    scale, shift = deviation.flatten(), mean.flatten()
    weight, bias = state[f"{last}.weight"], state[f"{last}.bias"]
    return {**state, f"{last}.weight": weight * scale, f"{last}.bias": bias * scale + shift}
