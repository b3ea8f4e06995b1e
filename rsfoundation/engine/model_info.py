"""Looking at what there is: config headers, registered backbones and tasks, published weights, figures."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rsfoundation.engine.model_builder import bands_of, build_network, network_config, run_parts
from rsfoundation.models.pretrained.catalogue import WEIGHTS
from rsfoundation.registry import MODELS, TASKS

aten = torch.ops.aten
_REST = "(rest)"
_OPENED = ("backbone", "encoder")
_SUMMED = ("params", "trainable", "macs", "activations")


@dataclass(frozen=True)
class Part:
    """Figures of one part of a model.

    Attributes:
        name: Name of the child module, or of one element of a list of modules.
        params: Number of parameters.
        trainable: Number of those that are trained.
        macs: Multiply-adds of convolutions, matrix products and attention; nothing else is counted.
        activations: Numbers that those operations put out.
    """

    name: str
    params: int
    trainable: int
    macs: int
    activations: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two."""
        return 2 * self.macs


@dataclass(frozen=True)
class Complexity:
    """Figures of a model for one input.

    Attributes:
        input_shape: Shape of the input, ``(N, bands, H, W)``.
        parts: Figures of its parts, in order.
    """

    input_shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def total(self) -> Part:
        """The sum of all parts."""
        return Part("total", *(sum(getattr(part, key) for part in self.parts) for key in _SUMMED))


Forward = Callable[[nn.Module, torch.Tensor], object]


def measure_complexity(
    model: nn.Module, input_shape: tuple[int, ...], forward: Forward = nn.Module.__call__
) -> Complexity:
    """Count a model's parameters, multiply-adds and activations.

    The forward runs on torch's meta device: shapes only, so that any size is counted in seconds.

    Args:
        model: A backbone, or any other module. It is left as it is.
        input_shape: ``(N, bands, H, W)``.
        forward: Runs the model on a tensor of that shape, for models that take more than a tensor.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    key_of = _part_names(twin)
    counter = _OperationCounter()
    with _attribute(twin, key_of, counter), counter, torch.enable_grad():
        forward(twin, torch.empty(input_shape, device="meta"))
    params: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in twin.named_parameters():
        params[key_of(name)] += parameter.numel()
        trainable[key_of(name)] += parameter.numel() * parameter.requires_grad
    names = [name for name in dict.fromkeys([*params, *counter.macs]) if params[name] or counter.macs[name]]
    columns = (params, trainable, counter.macs, counter.activations)
    parts = (Part(name, *(column[name] for column in columns)) for name in names)
    return Complexity(tuple(input_shape), tuple(parts))


def _part_names(model: nn.Module) -> Callable[[str], str]:
    """Return what maps a dotted name to its part.

    A part is a child, or an element where the child is a list; of a backbone in a model, or an encoder in
    a backbone, it is one of *its* parts.
    """
    inner = {name: _part_names(child) for name, child in model.named_children() if name in _OPENED}
    lists = {name for name, child in model.named_children() if isinstance(child, nn.ModuleList)}
    # A list that is one stage of several (block1, block2, ...) is a part itself.
    split = lists if len(lists) == 1 else set()

    def part_of(name: str) -> str:
        pieces = name.split(".")
        if not pieces[0]:
            return _REST
        if pieces[0] in inner and len(pieces) > 1:
            return f"{pieces[0]}.{inner[pieces[0]](name.partition('.')[2])}"
        return ".".join(pieces[: 2 if pieces[0] in split else 1])

    return part_of


@contextmanager
def _attribute(model: nn.Module, key_of: Callable[[str], str], counter: _OperationCounter) -> Iterator[None]:
    """Tell the counter which part is running."""
    handles = []
    for name, module in model.named_modules():
        enter = _Enter(counter, key_of(name))
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(counter.leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Enter:
    counter: _OperationCounter
    name: str

    def __call__(self, *_: Any) -> None:
        self.counter.running.append(self.name)


def _convolution(args: Any, out: torch.Tensor) -> int:
    return out.numel() * math.prod(args[1].shape[1:])


def _product(first: int) -> Callable[[Any, torch.Tensor], int]:
    return lambda args, out: out.numel() * args[first].shape[-1]


def _attention(args: Any, out: torch.Tensor) -> int:
    query, key, value = args[:3]
    return math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


_FORMULAS: Mapping[Any, Callable[[Any, torch.Tensor], int]] = {
    aten.convolution: _convolution,
    aten.mm: _product(0),
    aten.addmm: _product(1),
    aten.bmm: _product(0),
    aten.baddbmm: _product(1),
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
}


class _OperationCounter(TorchDispatchMode):
    """Adds up what the formulas say, for the part that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.running = [_REST]
        self.macs: Counter[str] = Counter()
        self.activations: Counter[str] = Counter()

    def leave(self, *_: Any) -> None:
        """End the part entered last."""
        self.running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is not None:
            result = out[0] if isinstance(out, tuple) else out
            self.macs[self.running[-1]] += formula(args, result)
            self.activations[self.running[-1]] += result.numel()
        return out


def config_headline(file: Path) -> str:
    """Return the first comment line of a config: what it is and which number it stands for."""
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return ""


def backbone_names() -> dict[str, str]:
    """Return every registered backbone with the first line of its docstring."""
    MODELS.import_from_location()
    return {
        name: _headline(kind)
        for name, kind in sorted(MODELS.module_dict.items())
        if kind.__module__.startswith(("rsfoundation.models.backbones", "rsfoundation.models.encoders"))
    }


def task_names() -> dict[str, str]:
    """Return every registered task with the first line of its docstring."""
    TASKS.import_from_location()
    return {name: _headline(kind) for name, kind in sorted(TASKS.module_dict.items())}


def weight_rows() -> list[tuple[str, ...]]:
    """Return one row per published checkpoint: name, network, training, figures, licence, link and hash."""
    return [
        (
            weights.name,
            " ".join(str(value) for value in weights.backbone.values()),
            weights.trained_on,
            "\n".join(f"{metric}: {value}" for metric, value in weights.metrics.items()),
            weights.licence,
            "direct" if weights.url else "by hand, from the authors' page",
            f"{weights.sha256}..." if weights.sha256 else "not published",
        )
        for weights in WEIGHTS.values()
    ]


def count(name: str, size: tuple[int, int], overrides: Sequence[str] = ()) -> Complexity:
    """Count a config's model, or a shipped backbone, for one image of ``size`` (height, width).

    Raises:
        ConfigError: The name is unknown, or the config names something that is.
    """
    network = build_network(network_config(name, overrides))
    return measure_complexity(network, (1, bands_of(network), *size), run_parts)


def _headline(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n")[0]
