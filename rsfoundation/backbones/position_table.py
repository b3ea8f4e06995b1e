"""Learned position tables of plain vision encoders, and how they follow another image size."""

import torch
import torch.nn.functional as F

Grid = tuple[int, int]


def resize_table(table: torch.Tensor, source: Grid, target: Grid, mode: str = "bicubic") -> torch.Tensor:
    """Resample a table of learned positions to another token grid.

    Args:
        table: ``(1, h * w, C)``, row-major over the grid ``source``.
        source: Height and width in tokens that the table was made for.
        target: Height and width in tokens that is wanted.
        mode: Interpolation of :func:`torch.nn.functional.interpolate`.

    Returns:
        ``(1, h' * w', C)``; the table itself when the grids are equal.
    """
    if source == target:
        return table
    image = table.transpose(1, 2).reshape(1, -1, *source)
    return F.interpolate(image.float(), size=target, mode=mode).flatten(2).transpose(1, 2).to(table.dtype)


def insert_token(tokens: torch.Tensor, token: torch.Tensor, index: int) -> torch.Tensor:
    """Put ``token (B, 1, C)`` into ``tokens (B, L, C)`` so that it stands at ``index``."""
    return torch.cat([tokens[:, :index], token, tokens[:, index:]], dim=1)


def remove_token(tokens: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split ``tokens (B, L + 1, C)`` into the one at ``index (B, 1, C)`` and the rest ``(B, L, C)``."""
    rest = torch.cat([tokens[:, :index], tokens[:, index + 1 :]], dim=1)
    return tokens[:, index : index + 1], rest
