"""Building an mmengine runner from a config, with errors a user can act on."""

import re
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS, Registry, root
from mmengine.runner import FlexibleRunner, Runner

from rsfoundation.engine.checkpoint import install_safe_loader
from rsfoundation.engine.hooks.lora import LoRAHook
from rsfoundation.engine.peft import model_config
from rsfoundation.engine.safety import use_safe_parts
from rsfoundation.engine.strategies.runner import StrategyRunner
from rsfoundation.engine.strategies.switch import adapt_to_strategy
from rsfoundation.errors import ConfigError, nearest

_UNKNOWN = re.compile(r"(\S+) is not in the (\S+)::(.+?) registry")


def build_runner(cfg: Config) -> Runner | FlexibleRunner:
    """Build the runner that the config alone asks for.

    ``runner_type`` names it where given; otherwise a config with a ``strategy`` runs in
    :class:`StrategyRunner` and any other in ``Runner``.

    Raises:
        ConfigError: A type of the config is registered nowhere; the nearest names are told.
    """
    install_safe_loader()
    use_safe_parts(cfg)
    try:
        if cfg.get("env_cfg") is None:
            cfg.env_cfg = {}  # FlexibleRunner unpacks it
        if "runner_type" in cfg:
            return RUNNERS.build(cfg)
        adapt_to_strategy(cfg)
        plain, cfg.model = cfg.model, model_config(cfg)
        runner = (StrategyRunner if cfg.get("strategy") else Runner).from_cfg(cfg)
        cfg.model = runner.cfg.model = plain  # config.py keeps the lora block apart, as the user wrote it
        if cfg.get("lora"):
            runner.register_hook(LoRAHook(cfg.lora.get("adapters_only", False)))
        return runner
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error


def unknown_type_error(error: KeyError, cfg: Config) -> Exception:
    """Turn mmengine's ``KeyError`` for an unregistered type into one that names the nearest types."""
    match = _UNKNOWN.search(str(error))
    if match is None:
        return error
    name, kind = match.group(1).strip("'\""), match.group(3)
    found = dicts_of(cfg.to_dict())
    place = next((f"{path}type" for path, node in found if node.get("type") == name), None)
    return ConfigError(
        f"the config asks for the {kind} '{name}', which is registered nowhere",
        where=f"{cfg.filename}: {place}" if place else cfg.filename,
        cure=nearest(name, registered_names(kind)) or "`rsf info models` lists what there is",
    )


def registered_names(kind: str) -> list[str]:
    """Return every name that a config may use for ``kind`` (``model``, ``dataset``, ...), with scopes."""
    roots = [item for item in vars(root).values() if isinstance(item, Registry) and item.name == kind]
    names: list[str] = []
    for registry in roots:
        names += list(registry.module_dict)
        for scope, child in registry.children.items():
            child.import_from_location()
            names += [f"{scope}.{name}" for name in child.module_dict]
    return names


def dicts_of(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dict of a config with the start of its keys' dotted path: empty, or ending with a dot."""
    if isinstance(node, dict):
        yield path, node
        items: Any = node.items()
    else:
        items = enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from dicts_of(value, f"{path}{key}.")
