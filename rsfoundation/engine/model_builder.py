"""From a config to a model: its chain of wrappers, the model for prediction, the state dict check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.runner import Runner
from torch import nn

from rsfoundation.core.errors import CheckpointError
from rsfoundation.engine.config import unknown_type_error
from rsfoundation.engine.peft import adapt_state, merge_adapters, reloadable_names
from rsfoundation.registry import HOOKS

_FIX = "give the config it was trained with (`rsf predict`: --config)"


def model_config(cfg: Config) -> Any:
    """Return the config of the model to build: ``cfg.model`` in its chain of wrappers, innermost first.

    | wrapper                | config key                                                            |
    | ---------------------- | --------------------------------------------------------------------- |
    | LoRA adapters          | ``lora``: arguments of :func:`rsfoundation.engine.peft.with_lora`     |
    | distillation           | ``distill``, in training: arguments of :func:`with_distillation`      |
    | test-time augmentation | ``use_tta``, with ``tta_model`` as mmengine's toolboxes name it       |

    ``cfg.model`` itself stays as the user wrote it. Averaged weights (EMA) are kept by a hook.
    """
    model = cfg.model
    if cfg.get("lora"):
        options = {key: value for key, value in cfg.lora.items() if key != "adapters_only"}
        model = dict(type="rsfoundation.with_lora", model=model, **options)
    if cfg.get("distill"):
        model = dict(type="rsfoundation.with_distillation", model=model, **cfg.distill)
    return with_test_time_augmentation(cfg, model) if cfg.get("use_tta") else model


def with_test_time_augmentation(cfg: Config, model: Any) -> ConfigDict:
    """Return the config of the wrapper that predicts several views of each image and merges them.

    Args:
        cfg: The config; ``tta_model`` names the wrapper.
        model: The config of the model, or the model.
    """
    return ConfigDict({**cfg.tta_model, "module": model})


def inference_model(cfg: Config, content: dict[str, Any], where: str | Path) -> tuple[nn.Module, int]:
    """Build the parts that prediction needs, load a checkpoint and merge adapters into its weights.

    Args:
        cfg: The config. Test-time augmentation and a teacher are not applied here.
        content: The checkpoint.
        where: Its file, for errors.

    Returns:
        The model in evaluation mode, and how many adapters were merged.

    Raises:
        ConfigError: A type of the config is not registered.
        CheckpointError: The checkpoint belongs to another model.
    """
    plain = {key: value for key, value in cfg.items() if key not in ("use_tta", "distill")}
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
    """Check that a checkpoint has every weight of a network, in its shape; unexpected keys are allowed.

    Args:
        network: The network, also with wrappers that put ``module.`` before the names.
        content: The checkpoint. Frozen weights may be left out of one that holds adapters alone, and so may
            counts of batches, which old ones lack.
        where: Its file.

    Raises:
        CheckpointError: Keys are missing, or shapes differ.
    """
    saved, own = _shapes(content.get("state_dict", content)), _shapes(network.state_dict())
    frozen = reloadable_names(network) if content.get("meta", {}).get("lora_base") else []
    needed = own.keys() - {name.removeprefix("module.") for name in frozen} - saved.keys()
    missing = [name for name in needed if not name.endswith("num_batches_tracked")]
    if missing:
        others = sorted(saved.keys() - own)
        raise CheckpointError(
            f"the checkpoint belongs to another model: {len(missing)} missing keys, first: {min(missing)}"
            + (f"; {len(others)} unexpected keys, first: {others[0]}" if others else ""),
            where=where,
            fix=_FIX,
        )
    odd = sorted(name for name in own.keys() & saved if own[name] != saved[name])
    if odd:
        shapes = f"{tuple(saved[odd[0]])}, here {tuple(own[odd[0]])}"
        raise CheckpointError(
            f"the checkpoint belongs to another model: {len(odd)} shapes differ, first: {odd[0]} ({shapes})",
            where=where,
            fix=_FIX,
        )


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("module."): getattr(value, "shape", ()) for name, value in state.items()}


def suppresses_across_classes(cfg: Any) -> bool:
    """Say whether the model's own NMS compares detections of different classes (``class_agnostic``)."""
    settings = (cfg.get("model") or {}).get("test_cfg") or {}
    last = settings.get("rcnn") or settings
    return bool((last.get("nms") or {}).get("class_agnostic", False))


@HOOKS.register_module()
class StateDictCheckHook(Hook):
    """The state dict check of a test run: refuses a checkpoint of another model."""

    priority = "LOWEST"  # after hooks that adapt the checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes before anything is loaded."""
        network = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_state_dict(network, checkpoint, runner._load_from)
