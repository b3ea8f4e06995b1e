"""Convolution at chosen pixels only: gather patches, and put results back."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gather_patches(
    image: Tensor, rows: Tensor, columns: Tensor, kernel: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the patches around some pixels, ``(channels * kernel area, count)``.

    Args:
        image: ``(1, channels, h, w)``.
        rows: ``(count,)`` of output pixels.
        columns: ``(count,)``.
        kernel: Height and width.
        padding: Zeros added above and below, left and right.
    """
    padded = F.pad(image[0], (padding[1], padding[1], padding[0], padding[0]))
    dy, dx = torch.meshgrid(*(torch.arange(size, device=image.device) for size in kernel), indexing="ij")
    patches = padded[:, rows[None] + dy.reshape(-1, 1), columns[None] + dx.reshape(-1, 1)]
    return patches.flatten(0, 1)


def place_pixels(values: Tensor, rows: Tensor, columns: Tensor, image: Tensor) -> None:
    """Write ``values`` (channels, count) into ``image`` (1, channels, h, w) in place."""
    image[0, :, rows, columns] = values
