"""Errors of a config that mmengine raises as KeyError or TypeError become errors that name the place."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root
from torch.utils.data import DataLoader

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.engine.opencd import absent_part

_UNKNOWN = re.compile(r"(\S+) is not in the (\S+)::(.+?) registry")


def unknown_type_error(error: KeyError, cfg: Config) -> Exception:
    """Turn mmengine's ``KeyError`` for an unregistered type into one that names the nearest types."""
    match = _UNKNOWN.search(str(error))
    if match is None:
        return error
    name, kind = match.group(1).strip("'\""), match.group(3)
    found = dicts_of(cfg.to_dict())
    place = next((f"{path}type" for path, node in found if node.get("type") == name), None)
    where = f"{cfg.filename}: {place}" if place else cfg.filename
    absent = absent_part(name)
    if absent is not None:
        return ConfigError(absent, where=where, fix="install Open-CD, or choose a method of docs/change.md")
    return ConfigError(
        f"the config asks for the {kind} '{name}', which is registered nowhere",
        where=where,
        fix=nearest(name, registered_names(kind)) or "`rsf info models` lists what there is",
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


_UNKNOWN_OPTION = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"(\w+)\.__init__\(\) missing \d+ required \S+ arguments?: (.+)")


@contextmanager
def explained_option_errors(cfg: Config) -> Iterator[None]:
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
    unknown, missing = _UNKNOWN_OPTION.search(str(error)), _MISSING.search(str(error))
    if unknown is not None:
        kind, option = unknown.groups()
        found = next(((path, node) for path, node in dicts_of(cfg.to_dict()) if option in node), None)
        if found is None:
            return None  # not from the config: a fault of the program
        path, node = found
        return ConfigError(
            f"{node.get('type', kind)} takes no option {option!r}",
            where=f"{cfg.filename}: {path}{option}",
            fix=nearest(option, _options(node)) or "take it out",
        )
    if missing is not None:
        kind, options = missing.groups()
        return ConfigError(f"{kind} needs {options}", where=cfg.filename, fix="set it in the config")
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
