"""From a config to a network: the chain of wrappers, the model for prediction, networks to count and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from rsfoundation.core.errors import CheckpointError, ConfigError, nearest
from rsfoundation.engine.config import config_root, find_config, load_config
from rsfoundation.engine.config_errors import unknown_type_error
from rsfoundation.engine.peft import adapt_state, frozen_names, merge_adapters
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.registry import HOOKS

_FIX = "give the config it was trained with (`rsf predict`: --config)"


def model_config(cfg: Config) -> Any:
    """Return what to build for a config: ``cfg.model`` in its chain of wrappers, innermost first.

    ======================  =============================================================
    wrapper                 asked for by
    ======================  =============================================================
    LoRA adapters           the block ``lora`` (see :func:`rsfoundation.engine.peft.with_lora`)
    test-time augmentation  ``use_tta``, with ``tta_model`` as mmengine's toolboxes name it
    ======================  =============================================================

    ``cfg.model`` itself stays as the user wrote it. Averaged weights (EMA) are kept by a hook.
    """
    model = cfg.model
    if cfg.get("lora"):
        options = {key: value for key, value in cfg.lora.items() if key != "adapters_only"}
        model = dict(type="rsfoundation.with_lora", model=model, **options)
    return with_test_time_augmentation(cfg, model) if cfg.get("use_tta") else model


def with_test_time_augmentation(cfg: Config, model: Any) -> ConfigDict:
    """Return the config of the wrapper that predicts several views of each image and merges them.

    Args:
        cfg: The config; ``tta_model`` names the wrapper.
        model: The config of the model, or the model.
    """
    return ConfigDict({**cfg.tta_model, "module": model})


def inference_model(cfg: Config, content: dict[str, Any], where: str | Path) -> tuple[nn.Module, int]:
    """Build what prediction needs, load a checkpoint into it and merge adapters into its weights.

    Args:
        cfg: The config. Test-time augmentation is not applied here.
        content: The checkpoint.
        where: Its file, for errors.

    Returns:
        The model in evaluation mode, and how many adapters were merged.

    Raises:
        ConfigError: A type of the config is registered nowhere.
        CheckpointError: The checkpoint belongs to another model.
    """
    plain = {key: value for key, value in cfg.items() if key != "use_tta"}
    try:
        network = ROOT_MODELS.build(model_config(Config(plain)))
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    adapt_state(network, content)
    check_state_dict(network, content, where)
    state = content.get("state_dict", content)
    network.load_state_dict({key.removeprefix("module."): state[key] for key in state}, strict=False)
    merged = merge_adapters(network)
    return network.eval(), merged


def check_state_dict(network: nn.Module, content: dict[str, Any], where: str | Path | None) -> None:
    """Check that a checkpoint has every weight of a network, in its shape; more does no harm.

    Args:
        network: The network, also with wrappers that put ``module.`` before the names.
        content: The checkpoint. Frozen weights may be left out of one that holds adapters alone, and so may
            counts of batches, which old ones lack.
        where: Its file.

    Raises:
        CheckpointError: Weights are missing, or of another shape.
    """
    saved, own = _shapes(content.get("state_dict", content)), _shapes(network.state_dict())
    frozen = frozen_names(network) if content.get("meta", {}).get("lora_base") else []
    needed = own.keys() - {name.removeprefix("module.") for name in frozen} - saved.keys()
    missing = [name for name in needed if not name.endswith("num_batches_tracked")]
    if missing:
        others = sorted(saved.keys() - own)
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} weights of the model, first: {min(missing)}"
            + (f"; and has {len(others)} others, first: {others[0]}" if others else ""),
            where=where,
            fix=_FIX,
        )
    odd = sorted(name for name in own.keys() & saved if own[name] != saved[name])
    if odd:
        shapes = f"{tuple(saved[odd[0]])}, here {tuple(own[odd[0]])}"
        raise CheckpointError(
            f"the checkpoint was made for another model: {len(odd)} weights differ in shape, first: {odd[0]} "
            f"({shapes})",
            where=where,
            fix=_FIX,
        )


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("module."): getattr(value, "shape", ()) for name, value in state.items()}


@HOOKS.register_module()
class StateDictCheckHook(Hook):
    """Refuses to test a checkpoint of another model."""

    priority = "LOWEST"  # after hooks that adapt the checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes before anything is loaded."""
        network = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_state_dict(network, checkpoint, runner._load_from)


_RGB = 3


def list_backbones() -> dict[str, Path]:
    """Return the shipped backbone files: name such as ``lsknet_t`` -> file."""
    return {path.stem: path for path in sorted((config_root() / "_base_" / "backbones").glob("*.py"))}


def network_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config, or the file of a shipped backbone; ``model`` is what to build.

    Raises:
        ConfigError: Neither goes by that name, or the config builds no model.
    """
    backbones = list_backbones()
    cfg = load_config(backbones.get(name) or _find(name, backbones), overrides)
    if "model" not in cfg and "backbone" in cfg:
        cfg.model = cfg.backbone
    if "model" not in cfg:
        raise ConfigError(
            "the config has neither `model` nor `backbone`",
            where=cfg.filename,
            fix="name a config of `rsf info configs` or a backbone of `rsf info models`",
        )
    return cfg


def _find(name: str, backbones: dict[str, Path]) -> Path:
    try:
        return find_config(name)
    except ConfigError as error:
        hint = nearest(name, backbones)
        raise ConfigError(
            f"neither a config nor a backbone is called '{name}'",
            where=error.where,
            fix=f"{hint} backbones: {', '.join(backbones)}; `rsf info configs` lists the configs".strip(),
        ) from error


def build_network(cfg: Config) -> nn.Module:
    """Build ``cfg.model`` with random weights, in evaluation mode.

    Raises:
        ConfigError: A type of the config is registered nowhere.
    """
    drop_sync_bn(cfg)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    try:
        return ROOT_MODELS.build(cfg.model).eval()
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error


def bands_of(network: nn.Module) -> int:
    """Return how many image channels a network takes: all dates together where it takes several."""
    mean = getattr(getattr(network, "data_preprocessor", None), "mean", None)
    if mean is not None:
        return mean.numel()
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return first.in_channels if first is not None else _RGB


def is_whole_model(network: nn.Module) -> bool:
    """Say whether a network has heads, and so takes samples beside images."""
    return hasattr(network, "extract_feat")


def run_parts(network: nn.Module, x: torch.Tensor) -> None:
    """Run backbone, neck and heads on images, without what depends on their content.

    Heads on regions run on as many as the config lets through: proposals for boxes, objects for masks.
    """
    if not is_whole_model(network):
        network(x)
        return
    features = network.extract_feat(x)  # type: ignore[operator]  # every model of the toolboxes has it
    for name in ("decode_head", "rpn_head", "bbox_head"):
        if hasattr(network, name):
            getattr(network, name)(features)
    if hasattr(network, "roi_head"):
        _run_regions(network.roi_head, network.test_cfg, x)


def _run_regions(head: Any, limits: Any, x: torch.Tensor) -> None:
    from mmdet.models.roi_heads import StandardRoIHead

    if type(head) is not StandardRoIHead:
        return
    kinds = [("bbox", limits.rpn.max_per_img)]
    kinds += [("mask", limits.rcnn.max_per_img)] if head.with_mask else []
    for kind, count in kinds:
        extractor = getattr(head, f"{kind}_roi_extractor")
        side = extractor.roi_layers[0].output_size
        size = tuple(side) if isinstance(side, Sequence) else (side, side)
        getattr(head, f"{kind}_head")(x.new_empty(len(x) * count, extractor.out_channels, *size))


class CastBackbone(nn.Module):
    """A backbone in another number format, between parts that stay in float32.

    Args:
        backbone: The backbone.
        dtype: Of its weights and of what it computes.
        compiled: Run it through ``torch.compile``.
    """

    def __init__(self, backbone: nn.Module, dtype: torch.dtype, compiled: bool) -> None:
        super().__init__()
        self.dtype = dtype
        self.backbone = torch.compile(backbone.to(dtype)) if compiled else backbone.to(dtype)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the maps in the number format of ``x``."""
        return tuple(maps.to(x.dtype) for maps in self.backbone(x.to(self.dtype)))


class Prediction(nn.Module):
    """A whole model as a module that takes one tensor: forward and post-processing, as at test.

    Args:
        network: A model of one of the toolboxes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        """Return the predictions for normalised images ``(N, bands, H, W)``."""
        return self.network(x, self._samples(x), mode="predict")

    def _samples(self, x: torch.Tensor) -> list[Any] | None:
        if hasattr(self.network, "decode_head"):  # mmseg's make their own
            return None
        from mmdet.structures import DetDataSample

        size = tuple(x.shape[2:])
        meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0)
        )
        return [DetDataSample(metainfo=meta) for _ in range(len(x))]
