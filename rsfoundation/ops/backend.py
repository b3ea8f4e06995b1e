"""Which implementation answers for an operator of mmcv: ours, or a compiled ``mmcv._ext``.

The environment variable ``RSF_OPS`` decides. ``builtin`` always takes ours and ``mmcv`` always the
compiled one; ``auto``, the default, takes the faster one that is present: ours on the CPU, the compiled
one for CUDA tensors, and whichever exists where only one does.
"""

import importlib.machinery
import importlib.util
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from rsfoundation.errors import ConfigError, MissingOperatorError

Choice = Literal["auto", "builtin", "mmcv"]
_VARIABLE, _EXTENSION = "RSF_OPS", "mmcv._ext"


def choice() -> Choice:
    """Read ``RSF_OPS``.

    Raises:
        ConfigError: It holds none of the three words.
    """
    value = os.environ.get(_VARIABLE, "auto")
    for allowed in get_args(Choice):
        if value == allowed:
            return allowed
    raise ConfigError(
        f"{_VARIABLE} is {value!r}; it may be {', '.join(get_args(Choice))}", where="environment"
    )


@lru_cache(maxsize=1)
def compiled_mmcv() -> ModuleType | None:
    """Return the compiled extension of mmcv, or None where mmcv came without one."""
    package = importlib.util.find_spec("mmcv")
    places = None if package is None else package.submodule_search_locations
    spec = None if places is None else importlib.machinery.PathFinder.find_spec(_EXTENSION, list(places))
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pick(name: str, builtin: Callable[..., Any] | None, args: Iterable[Any]) -> Callable[..., Any]:
    """Return the function that answers for ``name``.

    Args:
        name: mmcv's name of the operator.
        builtin: Our implementation, if there is one.
        args: What the operator is called with; the device of the first tensor counts.

    Raises:
        MissingOperatorError: Neither exists, or the one that ``RSF_OPS`` asks for does not.
    """
    wanted = choice()
    if builtin is not None and (wanted == "builtin" or (wanted == "auto" and not _on_cuda(args))):
        return builtin
    compiled = None if wanted == "builtin" else getattr(compiled_mmcv(), name, None)
    if compiled is not None:
        return compiled
    if builtin is not None and wanted == "auto":
        return builtin
    raise MissingOperatorError(
        f"no implementation of the mmcv operator {name!r} for {_VARIABLE}={wanted}",
        cure="install a compiled onedl-mmcv: MMCV_WITH_OPS=1 pip install --no-binary onedl-mmcv "
        "--no-build-isolation onedl-mmcv (docs/operators.md lists what needs none)",
    )


def _on_cuda(args: Iterable[Any]) -> bool:
    return any(isinstance(arg, torch.Tensor) and arg.is_cuda for arg in args)
