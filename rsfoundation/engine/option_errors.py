"""Options of a config that the part it builds does not take, or lacks: sentences in place of a TypeError."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root
from torch.utils.data import DataLoader

from rsfoundation.engine.runner import dicts_of
from rsfoundation.errors import ConfigError, nearest

_UNKNOWN = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"(\w+)\.__init__\(\) missing \d+ required \S+ arguments?: (.+)")


@contextmanager
def naming_options(cfg: Config) -> Iterator[None]:
    """Let what is built and run inside raise errors that name the place in ``cfg``.

    Raises:
        ConfigError: A part is built with an option that it does not take, or without one that it needs.
    """
    try:
        yield
    except TypeError as error:
        known = option_error(error, cfg)
        if known is None:
            raise
        raise known from error


def option_error(error: TypeError, cfg: Config) -> ConfigError | None:
    """Return the sentence for an error of Python about arguments; ``None`` for any other ``TypeError``."""
    unknown, missing = _UNKNOWN.search(str(error)), _MISSING.search(str(error))
    if unknown is not None:
        kind, option = unknown.groups()
        found = next(((path, node) for path, node in dicts_of(cfg.to_dict()) if option in node), None)
        if found is None:
            return None  # not from the config: a fault of the program
        path, node = found
        return ConfigError(
            f"{node.get('type', kind)} takes no option {option!r}",
            where=f"{cfg.filename}: {path}{option}",
            cure=nearest(option, _options(node)) or "take it out",
        )
    if missing is not None:
        kind, options = missing.groups()
        return ConfigError(f"{kind} needs {options}", where=cfg.filename, cure="set it in the config")
    return None


def _options(node: dict[str, Any]) -> set[str]:
    """Return the options that the part of a dict takes, its base classes' included."""
    kind = _part(str(node["type"])) if "type" in node else DataLoader  # data loaders name no type
    classes = inspect.getmro(kind) if inspect.isclass(kind) else ()
    names: set[str] = set()
    for one in classes:
        if one is not object:
            names |= set(inspect.signature(vars(one).get("__init__", one)).parameters)
    return names - {"self", "args", "kwargs"}


def _part(name: str) -> Any:
    """Return what any registry has under a name, with or without its scope."""
    scope, _, short = name.rpartition(".")
    for registry in (item for item in vars(root).values() if isinstance(item, Registry)):
        for child in (registry, *registry.children.values()):
            if scope in ("", child.scope) and short in child.module_dict:
                return child.module_dict[short]
    return None
