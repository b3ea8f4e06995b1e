"""Deformable convolution (Dai et al. 2017; Zhu et al. 2019), plain and modulated, with its gradients.

On the CPU samples are gathered into a matrix by compiled kernels and multiplied by torch, a few images at
a time. On other devices it is torchvision's operator, whose offsets (y before x) and zero border are the
same.

Arrays that all kernels share: ``pixels`` has a row for each pixel of the batch, ``columns`` one for each
pixel of the output and point of the convolution kernel; rows are ``(parts, channels of a part)`` or
``(channels,)``. ``offset`` ``(batch * parts * points, 2, places)`` moves a point along y and x for each
pixel of the output; ``mask`` ``(batch * parts * points, 1, places)`` is read where ``masked``. ``window``
holds height and width of the maps, the width of the output, that of the convolution kernel, its number of
points, and stride, padding and dilation along y and x.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.kernels.runtime import inlined, kernel, summing_kernel
from rsfoundation.ops.kernels.threads import run_chunks


@inlined
def _taps(
    offset: np.ndarray, window: tuple[int, ...], image: int, row: int, point: int, place: int
) -> tuple[bool, tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Locate a sample, in the type of the features, as mmcv does it: both then pick the same pixels.

    Returns:
        Whether it is within the border; its pixels upper left, upper right, lower left and lower right; the
        weights of the upper and lower row and of the left and right column; 1 for each of these four that is
        on the map, else 0 (its weight then is 0 too).
    """
    height, width, out_w, kernel_w, _, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = window
    kind = offset.dtype.type
    zero, one = kind(0.0), kind(1.0)
    y = kind(place // out_w * stride_h - pad_h + point // kernel_w * dilation_h) + offset[row, 0, place]
    x = kind(place % out_w * stride_w - pad_w + point % kernel_w * dilation_w) + offset[row, 1, place]
    inside = y > -one and x > -one and y < kind(height) and x < kind(width)
    y, x = y if inside else zero, x if inside else zero
    top, left = math.floor(y), math.floor(x)
    down, right = y - kind(top), x - kind(left)
    above, below = one if top >= 0 else zero, one if top < height - 1 else zero
    before, beyond = one if left >= 0 else zero, one if left < width - 1 else zero
    upper = (image * height + max(top, 0)) * width
    lower = (image * height + min(top + 1, height - 1)) * width
    near, far = max(left, 0), min(left + 1, width - 1)
    corners = (upper + near, upper + far, lower + near, lower + far)
    weights = (above * (one - down), below * down, before * (one - right), beyond * right)
    return inside, corners, weights, (above, below, before, beyond)


@kernel
def _sample(
    pixels: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    masked: bool,
    window: tuple[int, ...],
    columns: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write ``columns`` for pixels ``start..stop`` of the output, counted over the batch."""
    places, (_, parts, channels), points = offset.shape[2], columns.shape, window[4]
    for item in range(start, stop):
        image, place = item // places, item % places
        for point in range(points):
            target = item * points + point
            for part in range(parts):
                row = (image * parts + part) * points + point
                inside, (p0, p1, p2, p3), (y0, y1, x0, x1), _ = _taps(
                    offset, window, image, row, point, place
                )
                if not inside:
                    for c in range(channels):
                        columns[target, part, c] = 0
                    continue
                if masked:
                    y0, y1 = y0 * mask[row, 0, place], y1 * mask[row, 0, place]
                w0, w1, w2, w3 = y0 * x0, y0 * x1, y1 * x0, y1 * x1
                for c in range(channels):
                    columns[target, part, c] = (
                        w0 * pixels[p0, part, c]
                        + w1 * pixels[p1, part, c]
                        + w2 * pixels[p2, part, c]
                        + w3 * pixels[p3, part, c]
                    )


@summing_kernel
def _slopes(
    pixels: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    masked: bool,
    window: tuple[int, ...],
    columns: np.ndarray,
    grad_offset: np.ndarray,
    grad_mask: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write the gradients of offsets and mask for pixels ``start..stop`` of the output.

    ``columns`` holds the gradient of what ``_sample`` writes there.
    """
    places, (_, parts, channels), points = offset.shape[2], columns.shape, window[4]
    for item in range(start, stop):
        image, place = item // places, item % places
        for point in range(points):
            source = item * points + point
            for part in range(parts):
                row = (image * parts + part) * points + point
                inside, (p0, p1, p2, p3), (y0, y1, x0, x1), (above, below, before, beyond) = _taps(
                    offset, window, image, row, point, place
                )
                d0 = d1 = d2 = d3 = y0 - y0
                if inside:
                    for c in range(channels):
                        flow = columns[source, part, c]
                        d0 += flow * pixels[p0, part, c]
                        d1 += flow * pixels[p1, part, c]
                        d2 += flow * pixels[p2, part, c]
                        d3 += flow * pixels[p3, part, c]
                upper, lower = x0 * d0 + x1 * d1, x0 * d2 + x1 * d3
                along_y = below * lower - above * upper
                along_x = beyond * (y0 * d1 + y1 * d3) - before * (y0 * d0 + y1 * d2)
                if masked:
                    grad_mask[row, 0, place] = y0 * upper + y1 * lower
                    along_y, along_x = along_y * mask[row, 0, place], along_x * mask[row, 0, place]
                grad_offset[row, 0, place], grad_offset[row, 1, place] = along_y, along_x


@kernel
def _spread(
    pixels: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    masked: bool,
    window: tuple[int, ...],
    columns: np.ndarray,
    parts: int,
    start: int,
    stop: int,
) -> None:
    """Add to channels ``start..stop`` of ``pixels``, counted over the batch, the gradient of ``_sample``.

    ``columns`` holds the gradient of what ``_sample`` writes there. Channels, not outputs, are shared out
    among threads: samples of different outputs meet in one pixel.
    """
    places, channels, points = offset.shape[2], columns.shape[1], window[4]
    share = channels // parts
    for image in range(start // channels, (stop - 1) // channels + 1):
        low, high = max(start - image * channels, 0), min(stop - image * channels, channels)
        for place in range(places):
            for point in range(points):
                source = (image * places + place) * points + point
                for part in range(low // share, (high - 1) // share + 1):
                    row = (image * parts + part) * points + point
                    inside, (p0, p1, p2, p3), (y0, y1, x0, x1), _ = _taps(
                        offset, window, image, row, point, place
                    )
                    if not inside:
                        continue
                    if masked:
                        y0, y1 = y0 * mask[row, 0, place], y1 * mask[row, 0, place]
                    w0, w1, w2, w3 = y0 * x0, y0 * x1, y1 * x0, y1 * x1
                    for c in range(max(low, part * share), min(high, (part + 1) * share)):
                        flow = columns[source, c]
                        pixels[p0, c] += w0 * flow
                        pixels[p1, c] += w1 * flow
                        pixels[p2, c] += w2 * flow
                        pixels[p3, c] += w3 * flow


_VALUES_AT_ONCE = 1 << 24  # bounds the memory of samples (64 MiB in float32), unless one image has more


class Geometry(NamedTuple):
    """Arguments of torchvision's deformable convolution, in its order."""

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    offset_groups: int


class DeformedConv(NamedTuple):
    """One call, without its bias.

    Attributes:
        image: ``(batch, channels, height, width)``.
        weight: ``(out_channels, channels / groups, kernel_h, kernel_w)``.
        offset: ``(batch, offset_groups * points * 2, rows, columns)``, y before x, in pixels of ``image``.
        mask: ``(batch, offset_groups * points, rows, columns)``, factors of the samples, or None.
        how: Strides, paddings, dilations and groups.
        step: Most images whose samples are in memory at once.
    """

    image: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor | None
    how: Geometry
    step: int = 32


class _Block(NamedTuple):
    """A few images as the kernels take them.

    Attributes:
        images: Which images of the batch.
        pixels: ``(n * height * width, channels)``.
        offset: ``(n * offset_groups * points, 2, rows * columns)``.
        mask: ``(n * offset_groups * points, 1, rows * columns)``, or ``offset`` where there is none.
        columns: ``(n * rows * columns * points, channels)``, the samples, later their gradients.
    """

    images: slice
    pixels: Tensor
    offset: Tensor
    mask: Tensor
    columns: Tensor


def fill_output(conv: DeformedConv, bias: Tensor | None, output: Tensor) -> None:
    """Write the convolution into ``output``.

    Args:
        conv: The call.
        bias: ``(out_channels,)`` or None.
        output: ``(batch, out_channels, rows, columns)``, written.
    """
    if _by_torchvision(conv):
        shift = conv.weight.new_zeros(len(conv.weight)) if bias is None else bias
        output.copy_(torch.ops.torchvision.deform_conv2d(*_operands(conv), shift, *_options(conv)))
        return
    weight = _matrix(conv)
    for block in _blocks(conv):
        for samples, target in zip(_gathered(conv, block), output[block.images], strict=True):
            product = torch.bmm(weight, samples.transpose(1, 2)).view(target.shape)
            target.copy_(product if bias is None else product.add_(bias[:, None, None]))


def fill_input_grads(
    conv: DeformedConv, grad: Tensor, grad_image: Tensor, grad_offset: Tensor, grad_mask: Tensor | None
) -> None:
    """Write the gradients of image, offset and mask.

    Args:
        conv: The call.
        grad: Gradient of the output.
        grad_image: Written, like all below.
        grad_offset: Like the offset.
        grad_mask: Like the mask, or None where there is none.
    """
    if _by_torchvision(conv):
        sources = _torchvision_backward(conv, grad)
        grad_image.copy_(sources[0])
        grad_offset.copy_(sources[2])
        if grad_mask is not None:
            grad_mask.copy_(sources[3])
        return
    height, width = conv.image.shape[2:]
    for block in _blocks(conv):
        of_pixels, of_offset, of_mask = _scatter(conv, block, grad)
        of_image = of_pixels.view(-1, height, width, conv.image.shape[1]).permute(0, 3, 1, 2)
        grad_image[block.images] = of_image
        grad_offset[block.images] = of_offset.view(grad_offset[block.images].shape)
        if grad_mask is not None:
            grad_mask[block.images] = of_mask.view(grad_mask[block.images].shape)


def weight_grad(conv: DeformedConv, grad: Tensor) -> Tensor:
    """Return the gradient of the weight.

    Args:
        conv: The call.
        grad: Gradient of the output.
    """
    if _by_torchvision(conv):
        return _torchvision_backward(conv, grad)[1]
    total = torch.zeros_like(_matrix(conv))
    for block in _blocks(conv):
        for samples, flow in zip(_gathered(conv, block), _flows(conv, block, grad), strict=True):
            total.baddbmm_(flow, samples)
    out, channels, kernel_h, kernel_w = conv.weight.shape
    return total.view(out, kernel_h, kernel_w, channels).permute(0, 3, 1, 2).to(conv.weight.dtype)


def _by_torchvision(conv: DeformedConv) -> bool:
    """Return whether torchvision's operator computes it: on other devices, and where a graph is traced."""
    tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return conv.image.device.type != "cpu" or tracing


def _torchvision_backward(conv: DeformedConv, grad: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of image, weight, offset, mask and bias."""
    shift = conv.weight.new_zeros(len(conv.weight))
    return torch.ops.torchvision._deform_conv2d_backward(grad, *_operands(conv), shift, *_options(conv))


def _operands(conv: DeformedConv) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = conv.offset.new_zeros(len(conv.offset), 1) if conv.mask is None else conv.mask
    return conv.image, conv.weight, conv.offset, mask


def _options(conv: DeformedConv) -> tuple[int, ...]:
    return (*conv.how, conv.mask is not None)


def _kind(conv: DeformedConv) -> torch.dtype:
    """Return the type to compute in; half types are computed in float32."""
    return torch.float64 if conv.image.dtype == torch.float64 else torch.float32


def _matrix(conv: DeformedConv) -> Tensor:
    """Return the weight as ``(groups, out_channels / groups, points * channels / groups)``."""
    groups = conv.how.groups
    weight = conv.weight.detach().to(_kind(conv)).permute(0, 2, 3, 1)
    return weight.reshape(groups, len(weight) // groups, -1)


def _blocks(conv: DeformedConv) -> Iterator[_Block]:
    """Lay out a few images at a time, as many as the step and the memory bound allow."""
    batch, channels, _, _ = conv.image.shape
    places, points = conv.offset.shape[2:].numel(), conv.weight.shape[2:].numel()
    count = max(1, min(conv.step, batch, _VALUES_AT_ONCE // max(1, channels * places * points)))
    columns = conv.image.new_empty(count * places * points, channels, dtype=_kind(conv))
    for start in range(0, batch, count):
        images = slice(start, min(start + count, batch))
        pixels = conv.image[images].permute(0, 2, 3, 1).reshape(-1, channels)
        offset = conv.offset[images].reshape(-1, 2, places)
        mask = offset if conv.mask is None else conv.mask[images].reshape(-1, 1, places)
        pixels, offset, mask = (
            tensor.detach().to(columns.dtype).contiguous() for tensor in (pixels, offset, mask)
        )
        yield _Block(images, pixels, offset, mask, columns[: (images.stop - start) * places * points])


def _tiles(conv: DeformedConv, block: _Block) -> Tensor:
    """View columns as ``(n, groups, rows * columns, points, channels / groups)``."""
    places, points, groups = block.offset.shape[2], conv.weight.shape[2:].numel(), conv.how.groups
    return block.columns.view(-1, places, points, groups, conv.weight.shape[1]).permute(0, 3, 1, 2, 4)


def _flows(conv: DeformedConv, block: _Block, grad: Tensor) -> Tensor:
    """View the block's gradient of the output as ``(n, groups, out_channels / groups, rows * columns)``."""
    groups, places = conv.how.groups, block.offset.shape[2]
    flows = grad[block.images].to(block.columns.dtype)
    return flows.reshape(len(flows), groups, -1, places)


def _gathered(conv: DeformedConv, block: _Block) -> Iterator[Tensor]:
    """Take the block's samples; yield image by image ``(groups, rows * columns, points * channels)``."""

    places = block.offset.shape[2]
    pixels, columns = (_by_part(conv, tensor) for tensor in (block.pixels, block.columns))
    arrays = (pixels, *_movement(conv, block), columns)
    run_chunks(_sample, len(_tiles(conv, block)) * places, *arrays, grain=64, pieces=4)
    return (tile.flatten(2) for tile in _tiles(conv, block))


def _scatter(conv: DeformedConv, block: _Block, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of pixels, offset and mask (the last without meaning where there is none)."""

    weight, tiles = _matrix(conv), _tiles(conv, block)
    for tile, flow in zip(tiles, _flows(conv, block, grad), strict=True):
        if conv.how.groups == 1:  # no copy
            torch.bmm(flow.transpose(1, 2), weight, out=tile.flatten(2))
        else:
            tile.copy_(torch.bmm(flow.transpose(1, 2), weight).view(tile.shape))
    movement = _movement(conv, block)
    grads = torch.zeros_like(block.pixels), torch.empty_like(block.offset), torch.empty_like(block.mask)
    arrays = (_by_part(conv, block.pixels), *movement, _by_part(conv, block.columns))
    count = len(tiles) * block.offset.shape[2]
    run_chunks(_slopes, count, *arrays, grads[1].numpy(), grads[2].numpy(), grain=64, pieces=4)
    target, source = grads[0].numpy(), block.columns.numpy()
    run_chunks(_spread, len(tiles) * conv.image.shape[1], target, *movement, source, conv.how.offset_groups)
    return grads


def _by_part(conv: DeformedConv, rows: Tensor) -> np.ndarray:
    return rows.view(len(rows), conv.how.offset_groups, -1).numpy()


def _movement(conv: DeformedConv, block: _Block) -> tuple[np.ndarray, np.ndarray, bool, tuple[int, ...]]:
    """Return offset, mask, whether there is one, and ``window`` as the kernels take them."""
    (height, width), (kernel_h, kernel_w) = conv.image.shape[2:], conv.weight.shape[2:]
    window = (height, width, conv.offset.shape[3], kernel_w, kernel_h * kernel_w, *conv.how[:6])
    return block.offset.numpy(), block.mask.numpy(), conv.mask is not None, window


# Under the names and signatures of `mmcv._ext`, which passes sizes by name, and scratch tensors that stay as
# they are; see `rsfoundation.ops.mmcv_ext`.

_GEOMETRY = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_MODULATED_GEOMETRY = (
    "stride_h",
    "stride_w",
    "pad_h",
    "pad_w",
    "dilation_h",
    "dilation_w",
    "group",
    "deformable_group",
)


def _geometry(sizes: dict[str, int], names: tuple[str, ...]) -> Geometry:
    return Geometry(*(sizes[name] for name in names))


def _mmcv_deform_conv_forward(
    image: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Fill ``output``."""
    conv = DeformedConv(image, weight, offset, None, _geometry(sizes, _GEOMETRY), im2col_step)
    fill_output(conv, None, output)


def _mmcv_deform_conv_backward_input(
    image: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""
    conv = DeformedConv(image, weight, offset, None, _geometry(sizes, _GEOMETRY), im2col_step)
    fill_input_grads(conv, grad_output, grad_input, grad_offset, None)


def _mmcv_deform_conv_backward_parameters(
    image: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Add ``scale`` times the gradient to ``grad_weight``."""
    conv = DeformedConv(image, grad_weight, offset, None, _geometry(sizes, _GEOMETRY), im2col_step)
    grad_weight.add_(weight_grad(conv, grad_output), alpha=scale)


def _mmcv_modulated_deform_conv_forward(
    image: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fill ``output``."""
    conv = DeformedConv(image, weight, offset, mask, _geometry(sizes, _MODULATED_GEOMETRY))
    fill_output(conv, bias if with_bias else None, output)


def _mmcv_modulated_deform_conv_backward(
    image: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fill the five gradients."""
    conv = DeformedConv(image, weight, offset, mask, _geometry(sizes, _MODULATED_GEOMETRY))
    fill_input_grads(conv, grad_output, grad_input, grad_offset, grad_mask)
    grad_weight.copy_(weight_grad(conv, grad_output))
    if with_bias:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))
