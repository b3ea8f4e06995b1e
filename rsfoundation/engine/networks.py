"""Networks of configs and backbones by name: built with random weights, and counted part by part."""

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
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.engine.config import config_root, find_config, load_config, unknown_type_error
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.models.backbones.base import BaseNetwork
from rsfoundation.models.encoders.base import PlainPyramid
from rsfoundation.registry import MODELS

_RGB = 3


def list_backbones() -> dict[str, Path]:
    """Return the shipped backbone files: name such as ``lsknet_t`` -> file."""
    return {path.stem: path for path in sorted((config_root() / "_base_" / "backbones").glob("*.py"))}


def backbone_names() -> dict[str, str]:
    """Return every registered backbone with the first line of its docstring."""
    MODELS.import_from_location()
    return {
        name: (kind.__doc__ or "").strip().split("\n")[0]
        for name, kind in sorted(MODELS.module_dict.items())
        if isinstance(kind, type) and issubclass(kind, BaseNetwork | PlainPyramid)
    }


def network_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config, or the file of a shipped backbone, whose ``backbone`` becomes ``model``.

    Args:
        name: Name or path of a config, or name of a shipped backbone.
        overrides: ``key.sub=value`` strings.

    Raises:
        ConfigError: Neither has that name, or the config builds no model.
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
        ConfigError: A type of the config is not registered.
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
    """Say whether a network has heads, and so takes samples in addition to images."""
    return hasattr(network, "extract_feat")


def run_parts(network: nn.Module, x: torch.Tensor) -> None:
    """Run backbone, neck and heads on images, without what depends on their content.

    Heads on regions run on the most regions that the config allows: proposals for boxes, objects for masks.

    Args:
        network: A backbone or a whole model.
        x: Images ``(N, bands, H, W)``.
    """
    if not is_whole_model(network):
        network(x)
        return
    if hasattr(network, "decode_head") or hasattr(network, "bbox_head_refine"):
        network(x, mode="tensor")
        return
    features = network.extract_feat(x)  # type: ignore[operator]  # every model of the toolboxes has it
    for name in ("rpn_head", "bbox_head", "head"):
        if hasattr(network, name):
            getattr(network, name)(features)
    if hasattr(network, "roi_head"):
        _run_regions(network.roi_head, network.test_cfg, x)


def _run_regions(head: Any, limits: Any, x: torch.Tensor) -> None:
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead

    runs = [("bbox", limits.rpn.max_per_img)]
    if type(head) is StandardRoIHead and head.with_mask:  # prompted mask heads take more than regions
        runs.append(("mask", limits.rcnn.max_per_img))
    for kind, count in runs if isinstance(head, StandardRoIHead | CascadeRoIHead) else ():
        for stage, extractor in zip(
            _stages(head, f"{kind}_head"), _stages(head, f"{kind}_roi_extractor"), strict=True
        ):
            side = extractor.roi_layers[0].output_size
            size = tuple(side) if isinstance(side, Sequence) else (side, side)
            stage(x.new_empty(len(x) * count, extractor.out_channels, *size))


def _stages(head: Any, name: str) -> list[Any]:
    """Return a part of a head on regions, one for each stage of a cascade."""
    found = getattr(head, name)
    return list(found) if isinstance(found, nn.ModuleList) else [found]


aten = torch.ops.aten
_REST = "(rest)"
_OPENED = ("backbone", "encoder")
_SUMMED = ("params", "trainable", "macs", "activations")


@dataclass(frozen=True)
class Part:
    """Size and cost of one part of a model.

    Attributes:
        name: Name of the child module, or of one element of a list of modules.
        params: Number of parameters.
        trainable: Number of those that are trained.
        macs: Multiply-adds of convolutions, matrix products and attention; nothing else is counted.
        activations: Numbers in the outputs of those operations.
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
    """Size and cost of a model for one input.

    Attributes:
        input_shape: Shape of the input, ``(N, bands, H, W)``.
        parts: Its parts, in order.
        uncounted: Heads and decoders that did not run, as their cost depends on what an image shows.
    """

    input_shape: tuple[int, ...]
    parts: tuple[Part, ...]
    uncounted: tuple[str, ...] = ()

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
    return Complexity(tuple(input_shape), tuple(parts), tuple(_idle_heads(twin, counter.entered)))


def _idle_heads(model: nn.Module, entered: set[str]) -> Iterator[str]:
    """Yield the outermost heads and decoders with parameters of which nothing ran, but for auxiliary ones.

    Args:
        model: The model.
        entered: Names of the modules that ran.
    """
    idle: list[str] = []
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if not last.endswith(("head", "decoder")) or last.startswith("auxiliary"):
            continue
        inside = name in entered or any(one.startswith(f"{name}.") for one in entered)
        if (
            inside
            or any(name.startswith(f"{one}.") for one in idle)
            or next(module.parameters(), None) is None
        ):
            continue
        idle.append(name)
        yield name


def _part_names(model: nn.Module) -> Callable[[str], str]:
    """Return a function that maps a dotted name to its part.

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
    """Let the counter know which part is running."""
    handles = []
    for name, module in model.named_modules():
        enter = _Enter(counter, key_of(name), name)
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
    part: str
    module: str

    def __call__(self, *_: Any) -> None:
        self.counter.running.append(self.part)
        self.counter.entered.add(self.module)


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
    """Adds up multiply-adds and activations for the part that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.running = [_REST]
        self.entered: set[str] = set()
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


def network_complexity(name: str, size: tuple[int, int], overrides: Sequence[str] = ()) -> Complexity:
    """Count a config's model, or a shipped backbone, for one image.

    Args:
        name: Name or path of a config, or name of a shipped backbone.
        size: Height and width in pixels.
        overrides: ``key.sub=value`` strings.

    Raises:
        ConfigError: The name is unknown, or the config names an unknown type.
    """
    network = build_network(network_config(name, overrides))
    return measure_complexity(network, (1, bands_of(network), *size), run_parts)
