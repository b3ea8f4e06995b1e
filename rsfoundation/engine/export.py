"""Exporting models to ONNX and ``torch.export`` files, compared with PyTorch before they are kept.

A file takes raw pixel values: float32 ``(1, C, H, W)``, red first where an image has three bands, for change
detection both dates one after the other ``(1, 2C, H, W)``. Normalisation is in the file. torch exports some
operators (adaptive pooling with a free size is one, torch 2.13 with onnxscript 0.7) without an error to a
file that is right at the example's size alone; therefore every file is run at two other sizes, too.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError, RSFError
from rsfoundation.core.files import replacing

if TYPE_CHECKING:
    from rsfoundation.engine.export_detector import Agreement

STRIDE = 32  # sizes of images are multiples of it: the largest stride of a backbone
_LARGEST = 1 << 14
_RELATIVE = 1e-3  # of the largest absolute value, between PyTorch and onnxruntime
_EQUAL_PIXELS = 0.9999
_EQUAL_MASK_PIXELS = 0.999  # of pasted masks: values at the threshold may fall on either side
_FOLDED = 1e-5  # of the largest absolute value, after folding batch norms
_MATCHED = 0.99  # of detections: an overlap at the threshold may be rounded to either side
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")  # loggers of the exporter
_SUFFIXES = (".onnx", ".pt2")
# our operators ask for it; 2.4 fails at norms, too
_TORCH_EXPORTS = hasattr(torch.compiler, "is_exporting")


@dataclass(frozen=True)
class SizeCheck:
    """How a file compares with PyTorch on random images of one size.

    Attributes:
        size: Height and width in pixels.
        difference: Largest difference of an output, as a part of its largest absolute value.
        equal_pixels: Share of pixels with the same class; ``None`` for outputs without classes.
        error: Why the file cannot run at this size.
        agreement: Of detections, for detectors: their outputs come in an order that near-equal scores decide.
        runtime: What ran the file.
    """

    size: tuple[int, int]
    difference: float = float("inf")
    equal_pixels: float | None = None
    error: str = ""
    agreement: Agreement | None = None
    runtime: str = "onnxruntime"

    @property
    def found(self) -> str:
        """What differs, in words."""
        if self.agreement is not None and not self.error:
            one = self.agreement
            masks = f", {100 * one.mask_pixels:.2f} % of mask pixels" if one.mask_pixels < 1 else ""
            return f"{100 * one.matched:.1f} % of {one.detections} detections agree{masks}"
        return self.error or f"outputs differ by {self.difference:.2g} of their largest value"

    @property
    def passed(self) -> bool:
        """Whether the file may be used at this size."""
        if self.agreement is not None:
            return self.agreement.matched >= _MATCHED and self.agreement.mask_pixels >= _EQUAL_MASK_PIXELS
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
        folded: Batch norms that were folded into convolutions.
    """

    file: Path
    input_shape: tuple[int, ...]
    output_shapes: dict[str, tuple[int, ...]]
    free_size: bool
    checks: tuple[SizeCheck, ...]
    note: str = ""
    folded: int = 0


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
        return self.network(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """Return the input of the network for images of raw values."""
        if self.blue_first and images.shape[1] == 3 * self.dates:
            images = torch.cat([date.flip(1) for date in images.chunk(self.dates, 1)], 1)
        return (images - self.mean) / self.std if self.normalises else images


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


class ClassLogits(nn.Module):
    """A classifier: images in, logits of the classes out.

    Args:
        model: The classifier.
    """

    output_names = ("logits",)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of normalised images."""
        return self.model(images)


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
    module: Normalised,
    channels: int,
    size: tuple[int, int],
    file: Path,
    free_size: bool = True,
    *,
    deploy: bool = False,
    openvino: bool = False,
    pixels: Tensor | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Export:
    """Export a module and compare the file with it; a file that differs is not kept.

    Args:
        module: :class:`Normalised` around one of the modules of this file or
            :class:`~rsfoundation.engine.export_detector.RawDetections`, in evaluation mode on the CPU.
        channels: Channels of the input.
        size: Height and width of the example, multiples of 32.
        file: ``*.onnx``, or ``*.pt2`` for ``torch.export``.
        free_size: Try free heights and widths first; the size is fixed where that is not right.
        deploy: Fold batch norms into their convolutions first.
        openvino: Run the ONNX file in OpenVINO, too, and compare.
        pixels: An image ``(1, C, h, w)`` to compare on, repeated or cut to each size; random without.
        metadata: Written into the file: class names, thresholds.

    Returns:
        What was written, with its checks.

    Raises:
        ConfigError: A package is missing, the name or the size is none that can be exported, or the model has
            an operator without an equivalent.
    """
    _check_request(size, file, openvino)
    example = _images(channels, size, pixels)
    with torch.no_grad():
        outputs = _as_tuple(module(example))
    exported, folded = fold_batch_norms(module, example) if deploy else (module, 0)
    names = tuple(getattr(module.network, "output_names", ())) or ("output",)
    shapes = {name: tuple(out.shape) for name, out in zip(names, outputs, strict=True)}
    writer = _write_onnx if file.suffix == ".onnx" else _write_program
    others = [(size[0] + STRIDE, size[1] + 3 * STRIDE), (size[0] + 2 * STRIDE, size[1])]
    note = ""
    if free_size and getattr(module.network, "compare", None):
        free_size, note = False, "the size is fixed: how many candidates a detector keeps depends on it"
    with replacing(file) as temporary:
        for free in (True, False) if free_size else (False,):
            try:
                writer(exported, example, temporary, free, names, metadata or {})
            except Exception as error:  # torch raises many kinds
                if free:
                    note = f"the size is fixed: a free one cannot be exported ({_first_line(error)})"
                    continue
                raise _not_exportable(module, example, error) from error
            checks = tuple(
                replace(_compare(module, run, _images(channels, one, pixels)), runtime=runtime)
                for runtime, run in _loaded(temporary, openvino)
                for one in [size, *(others if free else [])]
            )
            bad = [check for check in checks if not check.passed]
            if not bad:
                return Export(file, tuple(example.shape), shapes, free, checks, note, folded)
            found = bad[0].found
            if not free:
                raise ConfigError(
                    f"the file does not compute in {bad[0].runtime} what the model computes: {found}",
                    where="rsf export",
                    fix="export the backbone alone: --part backbone",
                )
            height, width = bad[0].size
            note = f"the size is fixed: at {height} x {width} the file of a free size is wrong ({found})"
    raise AssertionError("one of the two forms returns or raises")


def _check_request(size: tuple[int, int], file: Path, openvino: bool) -> None:
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
    if openvino and file.suffix != ".onnx":
        raise ConfigError(
            f"OpenVINO reads ONNX files, not {file.suffix}", where="--openvino", fix="end the file in .onnx"
        )
    if not _TORCH_EXPORTS:
        raise ConfigError(
            f"the export needs torch 2.7 or newer, this is {torch.__version__}",
            where="rsf export",
            fix="pip install --upgrade torch torchvision",
        )
    needed = ("onnx", "onnxscript", "onnxruntime") if file.suffix == ".onnx" else ()
    for extra, names in (("onnx", needed), ("openvino", ("openvino",) if openvino else ())):
        if missing := [name for name in names if importlib.util.find_spec(name) is None]:
            raise ConfigError(
                f"the export needs {', '.join(missing)}",
                where="rsf export",
                fix=f"pip install 'rsfoundation[{extra}]'",
            )


def _write_onnx(
    module: nn.Module,
    example: Tensor,
    file: Path,
    free: bool,
    names: Sequence[str],
    metadata: Mapping[str, Any],
) -> None:
    import onnx

    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own passes
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            # first without torch.onnx: mmdet asks for it, and then imports modules that it no longer has
            program = torch.export.export(module, (example,), dynamic_shapes=_free_shapes() if free else None)
            torch.onnx.export(
                program,
                (),
                file,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["image"],
                output_names=list(names),
            )
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
    if metadata:
        model = onnx.load(file)
        onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
        onnx.save(model, file)


def _write_program(
    module: nn.Module,
    example: Tensor,
    file: Path,
    free: bool,
    names: Sequence[str],
    metadata: Mapping[str, Any],
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=_free_shapes() if free else None)
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(dict(metadata))})


def _free_shapes() -> tuple[dict[int, Any]]:
    height, width = (torch.export.Dim(name, min=2, max=_LARGEST // STRIDE) for name in ("rows", "columns"))
    return ({2: STRIDE * height, 3: STRIDE * width},)


def _loaded(file: Path, openvino: bool) -> Iterator[tuple[str, Callable[[Tensor], tuple[Tensor, ...]]]]:
    """Yield the programs that run a file: their names, and functions from images to outputs."""
    if file.suffix != ".onnx":
        program = torch.export.load(file).module()
        yield "torch.export", lambda images: _as_tuple(program(images))
        return
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would log is raised, too
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    yield (
        "onnxruntime",
        lambda images: tuple(torch.from_numpy(out) for out in session.run(None, {"image": images.numpy()})),
    )
    if openvino:
        from openvino import Core

        # without the hint it computes in bfloat16 where the processor can
        compiled = Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        yield "OpenVINO", lambda images: tuple(map(torch.from_numpy, compiled(images.numpy()).to_tuple()))


def _compare(module: Normalised, run: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor) -> SizeCheck:
    """Compare a file with the module on one image."""
    size = (int(images.shape[2]), int(images.shape[3]))
    try:
        found = run(images)
    except Exception as error:  # onnxruntime raises kinds of its own
        return SizeCheck(size, error=_first_line(error))
    with torch.no_grad():
        compare = getattr(module.network, "compare", None)
        if compare is not None:
            agreement = compare(module.normalised(images), found)
            return SizeCheck(size, agreement.box_difference, agreement=agreement)
        expected = _as_tuple(module(images))
    if [out.shape for out in found] != [out.shape for out in expected]:
        return SizeCheck(size, error="an output has another size")
    difference = max(map(_relative, found, expected))
    equal = None
    if getattr(module.network, "output_names", ()) == MapLogits.output_names and found[0].shape[1] > 1:
        equal = float((found[0].argmax(1) == expected[0].argmax(1)).float().mean())
    return SizeCheck(size, difference, equal)


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max() / other.abs().max().clamp(min=1e-12))


def _images(channels: int, size: tuple[int, int], pixels: Tensor | None) -> Tensor:
    """Return ``(1, C, H, W)``: the given pixels repeated or cut, or random ones that vary slowly."""
    if pixels is not None:
        repeats = [-(-side // have) for side, have in zip(size, pixels.shape[2:], strict=True)]
        return pixels.repeat(1, 1, *repeats)[:, :, : size[0], : size[1]].contiguous()
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, size[0] // 8, size[1] // 8, generator=generator) * 255
    return nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def fold_batch_norms(module: Normalised, example: Tensor) -> tuple[Normalised, int]:
    """Return a copy whose batch norms are folded into the convolutions before them, and how many were.

    A pair counts where the norm's input is the convolution's output, and the convolution runs once.

    Args:
        module: In evaluation mode; it is left as it is.
        example: Its input.

    Raises:
        ConfigError: Maps differ afterwards by more than 1e-5 of their largest value.
    """
    copy = deepcopy(module)
    pairs, calls = _pairs_of_conv_and_norm(copy, example)
    parents = {name: name.rpartition(".") for pair in pairs for name in pair}
    shared = Counter(id(conv.weight) for conv in copy.modules() if isinstance(conv, nn.Conv2d))
    folded = 0
    for conv_name, norm_name in pairs:
        conv, norm = copy.get_submodule(conv_name), copy.get_submodule(norm_name)
        if calls[conv_name] > 1 or shared[id(conv.weight)] > 1:
            continue
        new = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var,arg-type]
        setattr(copy.get_submodule(parents[conv_name][0]), parents[conv_name][2], new)
        setattr(copy.get_submodule(parents[norm_name][0]), parents[norm_name][2], nn.Identity())
        folded += 1
    with torch.no_grad():
        before, after = (_maps(one, example) for one in (module, copy))
    worst = max(map(_relative, after, before))
    if worst > _FOLDED:
        raise ConfigError(
            f"folding {folded} batch norms changes the result by {worst:.1g} of its largest value",
            where="--deploy",
            fix="export without --deploy; onnxruntime folds what it can when it loads a file",
        )
    return copy, folded


def _pairs_of_conv_and_norm(module: nn.Module, example: Tensor) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Return names of convolutions and of the norms that take their outputs, and calls by name."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # tensors are kept: a freed one's id may come again
    pairs: list[tuple[str, str]] = []
    calls: Counter[str] = Counter()

    def after(name: str, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[name] += 1
        if isinstance(part, nn.Conv2d):
            outputs[id(output)] = name, output
        elif id(inputs[0]) in outputs and calls[name] == 1:
            pairs.append((outputs[id(inputs[0])][0], name))

    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm)
    handles = [
        part.register_forward_hook(lambda part, ins, out, name=name: after(name, part, ins, out))
        for name, part in module.named_modules()
        if isinstance(part, kinds)
    ]
    try:
        with torch.enable_grad():  # without, layers may take paths that call no module
            _maps(module, example)
    finally:
        for handle in handles:
            handle.remove()
    return pairs, calls


def _maps(module: Any, example: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs of a module; of a detector its maps, as near-equal scores may change their order."""
    model: Any = getattr(module.network, "model", None)
    if hasattr(module.network, "compare"):
        return _as_tuple(model.extract_feat(module.normalised(example)))
    return _as_tuple(module(example))


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _first_line(error: BaseException) -> str:
    """Return the first line of the innermost cause; torch's exporter wraps it two or three times."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _not_exportable(module: Normalised, example: Tensor, error: Exception) -> RSFError:
    """Name the innermost part that cannot be exported by itself, or that has the missing operator."""
    reason = _first_line(error)
    missing = re.search(r"OpOverload\(op='\w+\.(\w+)'", reason)
    path, what = _place_of_operator(missing[1], module, example) if missing else ("", "")
    if not path and (culprit := _find_culprit(module.network, module, example)):
        path, what = culprit[0], type(culprit[1]).__name__
    part = f"the part {path} ({what})" if path else "the model"
    kind = (
        f"the operator '{missing[1]}', which ONNX lacks" if missing else "an operator that cannot be exported"
    )
    instead = ["a program of torch.export (-o model.pt2)"] if missing else []
    if not isinstance(module.network, StageMaps) and "backbone" not in path.split("."):
        instead.append("the backbone alone (--part backbone)")
    return ConfigError(
        f"{part} has {kind}: {reason}",
        where="rsf export",
        fix=f"export {', or '.join(instead)}" if instead else "replace that part; rsf predict runs the model",
    )


def _place_of_operator(name: str, module: Normalised, example: Tensor) -> tuple[str, str]:
    """Return path, type and line of code of the module that an operator comes from; empty if unknown."""
    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,))
            # ONNX's operators replace those of the decomposed program: linalg_svdvals is _linalg_svd there
            nodes = [*program.run_decompositions().graph.nodes, *program.graph.nodes]
    except Exception:  # torch raises many kinds
        return "", ""
    words = [(node, str(node.target).split(".")) for node in nodes if node.op == "call_function"]
    # torch.onnx shortens some names itself: special_bessel_j0 to bessel_j0
    hits = [node for node, parts in words if name in parts]
    hits += [node for node, parts in words if any(part.endswith(f"_{name}") for part in parts)]
    for node in hits[:1]:
        path, kind = list(node.meta.get("nn_module_stack", {"": ("", "the model")}).values())[-1]
        kind = kind if isinstance(kind, str) else kind.__name__
        lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
        code = next((line for line in reversed(lines) if line.startswith("File ")), "")
        return path.removeprefix("network."), f"{kind.rsplit('.', 1)[-1]}; {code}"
    return "", ""


def _find_culprit(root: nn.Module, whole: nn.Module, example: Tensor) -> tuple[str, nn.Module] | None:
    """Return name and module of the deepest direct child that fails in ``torch.export`` on its own inputs."""
    calls: dict[str, tuple[Any, ...]] = {}

    def note(name: str, args: tuple[Any, ...]) -> None:  # a hook that returns something replaces the input
        calls.setdefault(name, args)

    handles = [
        child.register_forward_pre_hook(lambda _, args, name=name: note(name, args))
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
