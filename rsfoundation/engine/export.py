"""Exporting models to ONNX and ``torch.export`` files, compared with PyTorch before they are kept.

A file takes raw pixel values: float32 ``(1, C, H, W)``, red first where an image has three bands, for change
detection both dates one after the other ``(1, 2C, H, W)``. Normalisation is in the file. torch exports some
operators (adaptive pooling with a free size is one, torch 2.13 with onnxscript 0.7) without an error to a
file that is right at the example's size alone; therefore every file is run at two other sizes, too.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError, RSFError
from rsfoundation.core.files import replacing

STRIDE = 32  # sizes of images are multiples of it: the largest stride of a backbone
_LARGEST = 1 << 14
_RELATIVE = 1e-3  # of the largest absolute value, between PyTorch and onnxruntime
_EQUAL_PIXELS = 0.9999
_SUFFIXES = (".onnx", ".pt2")


@dataclass(frozen=True)
class SizeCheck:
    """How a file compares with PyTorch on random images of one size.

    Attributes:
        size: Height and width in pixels.
        difference: Largest difference of an output, as a part of its largest absolute value.
        equal_pixels: Share of pixels with the same class; ``None`` for outputs without classes.
        error: Why the file cannot run at this size.
    """

    size: tuple[int, int]
    difference: float = float("inf")
    equal_pixels: float | None = None
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether the file may be used at this size."""
        return self.difference <= _RELATIVE and (
            self.equal_pixels is None or self.equal_pixels >= _EQUAL_PIXELS
        )


@dataclass(frozen=True)
class Export:
    """An exported file.

    Attributes:
        file: The file.
        input_shape: Of the example, ``(1, C, H, W)``.
        output_shapes: Of the example's outputs, by name.
        free_size: Whether height and width are free (multiples of 32, from 64).
        checks: Comparisons with PyTorch that it passed.
        note: Why the size is fixed, where it was asked to be free.
    """

    file: Path
    input_shape: tuple[int, ...]
    output_shapes: dict[str, tuple[int, ...]]
    free_size: bool
    checks: tuple[SizeCheck, ...]
    note: str = ""


class Normalised(nn.Module):
    """Raw pixels in, a network's outputs out: the data preprocessor's arithmetic is part of the graph.

    Args:
        network: Called with the normalised images.
        preprocessor: The model's data preprocessor, or None.
        dates: Images in a row along the channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessor: nn.Module | None, dates: int = 1) -> None:
        super().__init__()
        self.network, self.dates = network, dates
        self.normalises = bool(getattr(preprocessor, "_enable_normalize", False))
        for name in ("mean", "std") if self.normalises else ():
            self.register_buffer(name, getattr(preprocessor, name), persistent=False)
        # loaders give blue first; a model without conversion was trained so
        self.blue_first = not getattr(preprocessor, "_channel_conversion", True)

    def forward(self, images: Tensor) -> Any:
        """Return the outputs for images ``(N, C, H, W)`` of raw values, red first."""
        if self.blue_first and images.shape[1] == 3 * self.dates:
            images = torch.cat([date.flip(1) for date in images.chunk(self.dates, 1)], 1)
        if self.normalises:
            images = (images - self.mean) / self.std
        return self.network(images)


class MapLogits(nn.Module):
    """A segmentor of mmseg's kind as an application calls it: images in, logits of their size out.

    Args:
        model: The segmentor.
    """

    output_names = ("logits",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, K, H, W)`` of normalised images; one channel is that of a single class."""
        size = images.shape[2:]
        metas = [dict(img_shape=size, pad_shape=size, ori_shape=size)]
        return self.model.encode_decode(images, metas)  # type: ignore[operator]


class StageMaps(nn.Module):
    """A backbone: images in, its stage maps out.

    Args:
        backbone: The backbone.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        strides: Sequence[int] = backbone.out_strides  # type: ignore[assignment]
        self.output_names = tuple(f"stride_{stride}" for stride in strides)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of normalised images."""
        return tuple(self.backbone(images))


def export(
    module: Normalised, channels: int, size: tuple[int, int], file: Path, free_size: bool = True
) -> Export:
    """Export a module and compare the file with it; a file that differs is not kept.

    Args:
        module: :class:`Normalised` around :class:`MapLogits` or :class:`StageMaps`, in evaluation mode on the
            CPU.
        channels: Channels of the input.
        size: Height and width of the example, multiples of 32.
        file: ``*.onnx``, or ``*.pt2`` for ``torch.export``.
        free_size: Try free heights and widths first; the size is fixed where that is not right.

    Returns:
        What was written, with its checks.

    Raises:
        ConfigError: A package is missing, the name or the size is none that can be exported, or the model has
            an operator without an equivalent.
    """
    _check_request(size, file)
    example = _random_images(channels, size)
    with torch.no_grad():
        outputs = _as_tuple(module(example))
    names = tuple(getattr(module.network, "output_names", ())) or ("output",)
    shapes = {name: tuple(out.shape) for name, out in zip(names, outputs, strict=True)}
    writer = _write_onnx if file.suffix == ".onnx" else _write_program
    others = [(size[0] + STRIDE, size[1] + 3 * STRIDE), (size[0] + 2 * STRIDE, size[1])]
    note = ""
    with replacing(file) as temporary:
        for free in (True, False) if free_size else (False,):
            try:
                writer(module, example, temporary, free, names)
            except Exception as error:  # torch raises many kinds
                if free:
                    note = f"the size is fixed: a free one cannot be exported ({_first_line(error)})"
                    continue
                raise _not_exportable(module, example, error) from error
            run = _loader(temporary)
            checks = tuple(_compare(module, run, channels, one) for one in [size, *(others if free else [])])
            bad = [check for check in checks if not check.passed]
            if not bad:
                return Export(file, tuple(example.shape), shapes, free, checks, note)
            found = bad[0].error or f"outputs differ by {bad[0].difference:.2g} of their largest value"
            if not free:
                raise ConfigError(
                    f"the exported file does not compute what the model computes: {found}",
                    where="rsf export",
                    fix="export the backbone alone: --part backbone",
                )
            height, width = bad[0].size
            note = f"the size is fixed: at {height} x {width} the file of a free size is wrong ({found})"
    raise AssertionError("one of the two forms returns or raises")


def _check_request(size: tuple[int, int], file: Path) -> None:
    if file.suffix not in _SUFFIXES:
        raise ConfigError(
            f"unknown kind of file: {file.suffix or file.name}", where="-o", fix="end it in .onnx or .pt2"
        )
    if any(side % STRIDE or side < STRIDE for side in size):
        raise ConfigError(
            f"the sides of an image must be multiples of {STRIDE}, got {size[0]} x {size[1]}",
            where="--size",
            fix=f"--size {max(STRIDE, size[0] // STRIDE * STRIDE)}",
        )
    needed = ("onnx", "onnxscript", "onnxruntime") if file.suffix == ".onnx" else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"ONNX needs {', '.join(missing)}", where="rsf export", fix="pip install 'rsfoundation[onnx]'"
        )


def _write_onnx(module: nn.Module, example: Tensor, file: Path, free: bool, names: Sequence[str]) -> None:
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own passes
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                module,
                (example,),
                file,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["image"],
                output_names=list(names),
                dynamic_shapes=_free_shapes() if free else None,
            )
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _write_program(module: nn.Module, example: Tensor, file: Path, free: bool, names: Sequence[str]) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=_free_shapes() if free else None)
        torch.export.save(program, file)


def _free_shapes() -> tuple[dict[int, Any]]:
    height, width = (torch.export.Dim(name, min=2, max=_LARGEST // STRIDE) for name in ("rows", "columns"))
    return ({2: STRIDE * height, 3: STRIDE * width},)


def _loader(file: Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Return a function that runs a file."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return lambda images: tuple(
            torch.from_numpy(out) for out in session.run(None, {"image": images.numpy()})
        )
    program = torch.export.load(file).module()
    return lambda images: _as_tuple(program(images))


def _compare(
    module: Normalised, run: Callable[[Tensor], tuple[Tensor, ...]], channels: int, size: tuple[int, int]
) -> SizeCheck:
    """Compare a file with the module on random images of one size."""
    images = _random_images(channels, size)
    with torch.no_grad():
        expected = _as_tuple(module(images))
        try:
            found = run(images)
        except Exception as error:  # onnxruntime raises kinds of its own
            return SizeCheck(size, error=_first_line(error))
    if [out.shape for out in found] != [out.shape for out in expected]:
        return SizeCheck(size, error="an output has another size")
    difference = max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
        for one, other in zip(found, expected, strict=True)
    )
    equal = None
    if getattr(module.network, "output_names", ()) == MapLogits.output_names and found[0].shape[1] > 1:
        equal = float((found[0].argmax(1) == expected[0].argmax(1)).float().mean())
    return SizeCheck(size, difference, equal)


def _random_images(channels: int, size: tuple[int, int]) -> Tensor:
    """Return values 0 to 255 that vary over a few pixels, as images do."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, size[0] // 8, size[1] // 8, generator=generator) * 255
    return nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _not_exportable(module: Normalised, example: Tensor, error: Exception) -> RSFError:
    """Name the innermost part that cannot be exported by itself."""
    culprit = _find_culprit(module.network, module, example)
    part = f"the part {culprit[0]} ({type(culprit[1]).__name__})" if culprit else "the model"
    return ConfigError(
        f"{part} has an operator that cannot be exported: {_first_line(error)}",
        where="rsf export",
        fix="export the backbone alone: --part backbone",
    )


def _find_culprit(root: nn.Module, whole: nn.Module, example: Tensor) -> tuple[str, nn.Module] | None:
    """Return name and module of the deepest direct child that fails in ``torch.export`` on its own inputs."""
    calls: dict[str, tuple[Any, ...]] = {}
    handles = [
        child.register_forward_pre_hook(lambda _, args, name=name: calls.setdefault(name, args))
        for name, child in root.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            whole(example)
    finally:
        for handle in handles:
            handle.remove()
    found, prefix = None, ""
    while True:
        parent = root.get_submodule(prefix) if prefix else root
        names = [f"{prefix}.{name}" if prefix else name for name, _ in parent.named_children()]
        failing = next((name for name in names if name in calls and not _exports(root, name, calls)), None)
        if failing is None:
            return found
        found, prefix = (failing, root.get_submodule(failing)), failing


def _exports(root: nn.Module, name: str, calls: dict[str, tuple[Any, ...]]) -> bool:
    try:
        with torch.no_grad():
            torch.export.export(root.get_submodule(name), calls[name])
    except Exception:  # torch raises many kinds
        return False
    return True
