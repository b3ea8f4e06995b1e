"""Deformable convolution (Dai et al. 2017; Zhu et al. 2019), plain and modulated, with its gradients.

On the CPU samples are gathered into a matrix by compiled kernels and multiplied by torch, a few images at
a time. On other devices it is torchvision's operator, whose offsets (y before x) and zero border are the
same.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import types
from torch import Tensor

from rsfoundation.ops.kernels.runtime import (
    call,
    convert,
    kernel,
    larger,
    least,
    most,
    smaller,
    straight,
    summing_kernel,
    where,
)
from rsfoundation.ops.kernels.threads import run_chunks


def _taps(
    offset: Any, window: tuple[Any, ...], image: Any, row: Any, point: Any, place: Any
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Locate a sample.

    Returns:
        Whether it lies within the border; its pixels upper left, upper right, lower left and lower right;
        the weights of the upper and lower row and of the left and right column; 1 for each of these four
        that lies on the map, else 0 (its weight then is 0 too).
    """
    height, width, out_w, kernel_w, _, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = window
    down, right = offset[row, 0, place], offset[row, 1, place]

    def real(value: Any) -> Any:
        return convert(value, down.kind)

    def part(at: Any, size: Any) -> tuple[Any, ...]:
        """Return the two pixels along an axis, their weights, and 1 for each that lies on the map."""
        first = convert(call("llvm.floor", at), types.int64)
        beyond = at - real(first)
        here, there = real(first >= 0), real(first < size - 1)
        return (
            larger(first, 0),
            smaller(first + 1, size - 1),
            here * (1.0 - beyond),
            there * beyond,
            here,
            there,
        )

    y = real(place // out_w * stride_h - pad_h + point // kernel_w * dilation_h) + down
    x = real(place % out_w * stride_w - pad_w + point % kernel_w * dilation_w) + right
    inside = (y > -1.0) & (x > -1.0) & (y < real(height)) & (x < real(width))
    top, bottom, y0, y1, above, below = part(where(inside, y, 0.0), height)
    left, right, x0, x1, before, beyond = part(where(inside, x, 0.0), width)
    upper, lower = (image * height + top) * width, (image * height + bottom) * width
    corners = (upper + left, upper + right, lower + left, lower + right)
    return inside, corners, (y0, y1, x0, x1), (above, below, before, beyond)


_plain_taps = straight(_taps)


@straight
def _weighted_taps(
    offset: Any, mask: Any, masked: Any, window: tuple[Any, ...], image: Any, row: Any, point: Any, place: Any
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Return whether a sample lies within the border, its pixels, and their weights."""
    inside, corners, (y0, y1, x0, x1), _ = _taps(offset, window, image, row, point, place)
    factor = where(masked, mask[row, 0, place], 1.0)
    y0, y1 = y0 * factor, y1 * factor
    return inside, corners, (y0 * x0, y0 * x1, y1 * x0, y1 * x1)


@straight
def _blend(columns: Any, target: Any, part: Any, c: Any, pixels: Any, corners: Any, weights: Any) -> None:
    w0, w1, w2, w3 = weights
    p0, p1, p2, p3 = (pixels[corner, part, c] for corner in corners)
    columns[target, part, c] = w0 * p0 + w1 * p1 + w2 * p2 + w3 * p3


@straight
def _add_back(columns: Any, source: Any, c: Any, pixels: Any, corners: Any, weights: Any) -> None:
    for corner, weight in zip(corners, weights, strict=True):
        pixels[corner, c] += weight * columns[source, c]


@straight
def _products(columns: Any, source: Any, part: Any, c: Any, pixels: Any, corners: Any) -> tuple[Any, ...]:
    """Return what the gradient of a channel of a sample makes of its four pixels."""
    flow = columns[source, part, c]
    return tuple(flow * pixels[corner, part, c] for corner in corners)


@straight
def _write_slopes(
    sums: tuple[Any, ...],
    taps: tuple[Any, ...],
    mask: Any,
    masked: Any,
    row: Any,
    place: Any,
    grad_offset: Any,
    grad_mask: Any,
) -> None:
    """Write the gradients of a sample from sums of ``_products`` over its channels."""
    d0, d1, d2, d3 = sums
    _, _, (y0, y1, x0, x1), (above, below, before, beyond) = taps
    upper, lower = x0 * d0 + x1 * d1, x0 * d2 + x1 * d3
    factor = where(masked, mask[row, 0, place], 1.0)
    grad_mask[row, 0, place] = y0 * upper + y1 * lower
    grad_offset[row, 0, place] = (below * lower - above * upper) * factor
    grad_offset[row, 1, place] = (beyond * (y0 * d1 + y1 * d3) - before * (y0 * d0 + y1 * d2)) * factor


@kernel
def sample(
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
                inside, corners, weights = _weighted_taps(
                    offset, mask, masked, window, image, row, point, place
                )
                if inside:
                    for c in range(channels):
                        _blend(columns, target, part, c, pixels, corners, weights)
                else:
                    for c in range(channels):
                        columns[target, part, c] = 0


@summing_kernel
def slopes(
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

    ``columns`` holds the gradient of what ``sample`` writes there. ``grad_mask`` is written in any case.
    """
    places, (_, parts, channels), points = offset.shape[2], columns.shape, window[4]
    for item in range(start, stop):
        image, place = item // places, item % places
        for point in range(points):
            source = item * points + point
            for part in range(parts):
                row = (image * parts + part) * points + point
                taps = _plain_taps(offset, window, image, row, point, place)
                inside, corners, weights, _ = taps
                d0 = d1 = d2 = d3 = weights[0] - weights[0]
                if inside:
                    for c in range(channels):
                        of0, of1, of2, of3 = _products(columns, source, part, c, pixels, corners)
                        d0, d1, d2, d3 = d0 + of0, d1 + of1, d2 + of2, d3 + of3
                _write_slopes((d0, d1, d2, d3), taps, mask, masked, row, place, grad_offset, grad_mask)


@kernel
def spread(
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
    """Add to channels ``start..stop`` of ``pixels``, counted over the batch, the gradient of ``sample``.

    ``columns`` holds the gradient of what ``sample`` writes there. Channels, not outputs, are shared out
    among threads: samples of different outputs meet in one pixel.
    """
    places, channels, points = offset.shape[2], columns.shape[1], window[4]
    share = channels // parts
    for image in range(start // channels, (stop - 1) // channels + 1):
        low, high = most(start - image * channels, 0), least(stop - image * channels, channels)
        for place in range(places):
            for point in range(points):
                source = (image * places + place) * points + point
                for part in range(low // share, (high - 1) // share + 1):
                    row = (image * parts + part) * points + point
                    inside, corners, weights = _weighted_taps(
                        offset, mask, masked, window, image, row, point, place
                    )
                    if inside:
                        for c in range(most(low, part * share), least(high, (part + 1) * share)):
                            _add_back(columns, source, c, pixels, corners, weights)


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
        columns: ``(n * rows * columns * points, channels)`` of what is sampled; written by turns.
    """

    images: slice
    pixels: Tensor
    offset: Tensor
    mask: Tensor
    columns: Tensor


def fill_output(conv: DeformedConv, bias: Tensor | None, output: Tensor) -> None:
    """Write the convolution into ``output`` ``(batch, out_channels, rows, columns)``."""
    if conv.image.device.type != "cpu":
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
    """Write the gradients of image, offset and mask, from that of the output."""
    if conv.image.device.type != "cpu":
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
    """Return the gradient of the weight, from that of the output."""
    if conv.image.device.type != "cpu":
        return _torchvision_backward(conv, grad)[1]
    total = torch.zeros_like(_matrix(conv))
    for block in _blocks(conv):
        for samples, flow in zip(_gathered(conv, block), _flows(conv, block, grad), strict=True):
            total.baddbmm_(flow, samples)
    out, channels, kernel_h, kernel_w = conv.weight.shape
    return total.view(out, kernel_h, kernel_w, channels).permute(0, 3, 1, 2).to(conv.weight.dtype)


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
    run_chunks(sample, len(_tiles(conv, block)) * places, *arrays, grain=64, pieces=4)
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
    run_chunks(slopes, count, *arrays, grads[1].numpy(), grads[2].numpy(), grain=64, pieces=4)
    target, source = grads[0].numpy(), block.columns.numpy()
    run_chunks(spread, len(tiles) * conv.image.shape[1], target, *movement, source, conv.how.offset_groups)
    return grads


def _by_part(conv: DeformedConv, rows: Tensor) -> np.ndarray:
    return rows.view(len(rows), conv.how.offset_groups, -1).numpy()


def _movement(conv: DeformedConv, block: _Block) -> tuple[np.ndarray, np.ndarray, bool, tuple[int, ...]]:
    """Return offset, mask, whether there is one, and ``window`` as the kernels take them."""
    (height, width), (kernel_h, kernel_w) = conv.image.shape[2:], conv.weight.shape[2:]
    window = (height, width, conv.offset.shape[3], kernel_w, kernel_h * kernel_w, *conv.how[:6])
    return block.offset.numpy(), block.mask.numpy(), conv.mask is not None, window
