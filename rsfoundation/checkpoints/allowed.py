"""What a checkpoint may hold beside tensors: stand-ins that keep the data and give nothing else away.

torch's weights-only reader takes a table of names and of what answers for them. mmengine's own table holds
``getattr`` and numpy's ``dtype``, which lets a crafted file reach any attribute, make arrays of objects, or
change the statistics of every ``HistoryBuffer`` of the process. Here each name is answered by a stand-in that
checks what it is given.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

_PLAIN_DTYPE = re.compile(r"[biufcSU?]\d*")
_STATISTICS = ("mean", "max", "min", "current")


def _named(item: Any, name: str) -> Any:
    """Let ``item`` answer for the global ``name``: torch finds it by module and qualified name."""
    item.__module__, _, item.__qualname__ = name.rpartition(".")
    item.__name__ = item.__qualname__
    return item


class _DType:
    """A number's or a string's type; types of objects, of fields and of raw memory are refused."""

    def __init__(self, spec: Any, _align: Any = False, _copy: Any = False) -> None:
        if not isinstance(spec, str) or not _PLAIN_DTYPE.fullmatch(spec):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({spec!r}) was not allowed")
        self.spec, self.order = spec, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *fields = state[1:5]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype with fields was not allowed")
        self.order = order

    def real(self) -> np.dtype[Any]:
        """Return numpy's own."""
        return np.dtype(self.spec).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """A numpy array of numbers or strings that takes its content only with a checked type."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("GLOBAL numpy.ndarray of objects was not allowed")
        super().__setstate__((1, shape, dtype.real(), fortran, data))

    def __reduce__(self) -> Any:
        """Be saved again as the plain array it stands for."""
        return self.view(np.ndarray).__reduce__()


def _empty_array(kind: Any, shape: Any, _dtype: Any) -> _Array:
    if kind is not _Array or tuple(shape) != (0,):
        raise pickle.UnpicklingError("GLOBAL numpy.core.multiarray._reconstruct with a size was not allowed")
    return np.empty(0).view(_Array)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != dtype.real().itemsize:
        raise pickle.UnpicklingError("GLOBAL numpy.core.multiarray.scalar of an object was not allowed")
    return np.frombuffer(data, dtype.real())[0]


class _History(HistoryBuffer):
    """mmengine's log of one scalar: its two arrays and their length, and no statistics from outside."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        values, counts, longest = (state[key] for key in ("_log_history", "_count_history", "max_length"))
        if not (
            isinstance(values, np.ndarray) and isinstance(counts, np.ndarray) and isinstance(longest, int)
        ):
            raise pickle.UnpicklingError("GLOBAL mmengine HistoryBuffer of other than arrays was not allowed")
        self.__init__(values, counts, longest)  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """Be saved and copied as the buffer it stands for."""
        return HistoryBuffer, (*self.data, self.max_length)


def _statistic(owner: Any, name: str) -> str:
    """Answer for ``getattr``: mmengine pickles its statistics by name, which is all that is given back."""
    if owner is _History and name in _STATISTICS:
        return name
    raise pickle.UnpicklingError(f"GLOBAL getattr of {owner!r} was not allowed")


def _settings(name: str) -> type:
    """Return a stand-in for a class that only carries values, whose package need not be installed."""

    def new(_cls: type, *_args: Any) -> Any:
        return OrderedDict()  # torch fills the attributes of no other kind from a file

    return _named(type("_Settings", (), {"__new__": new}), name)


def _renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    return _named(lambda *args: function(*args), name)


ALLOWED: tuple[Any, ...] = (
    slice,
    argparse.Namespace,
    _named(_DType, "numpy.dtype"),
    _named(_Array, "numpy.ndarray"),
    _named(_History, "mmengine.logging.history_buffer.HistoryBuffer"),
    _named(_statistic, "builtins.getattr"),
    # numpy 2 renamed its core; files of either are read by either
    *(_renamed(_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *(_renamed(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    _settings("yacs.config.CfgNode"),  # RSP saves its settings beside its weights
    # what DeepSpeed saves beside its tensors
    _renamed(int, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    _settings("deepspeed.runtime.fp16.loss_scaler.LossScaler"),
    _settings("deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"),
    _settings("deepspeed.utils.tensor_fragment.fragment_address"),
)
