"""RSMamba: the state space encoder of RS4D (arXiv 2606.25324), a plain stack of Mamba-1 mixers."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import nn
from torch.utils.checkpoint import checkpoint

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.models.backbones.base import read_arch
from rsfoundation.models.encoders.mamba_mixer import MambaMixer, StepInit
from rsfoundation.registry import MODELS

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


PathType = Literal[
    "forward",
    "forward_reverse_mean",
    "forward_reverse_gate",
    "forward_reverse_shuffle_gate",
    "forward_reverse_shuffle_mean",
]


def path_gates(path_type: PathType, width: int, depth: int) -> nn.ModuleList:
    """Return one linear gate per block, or none; each is a Sequential because its key is ``i.0``."""
    if not path_type.endswith("gate"):
        return nn.ModuleList()
    paths = 1 + ("reverse" in path_type) + ("shuffle" in path_type)
    return nn.ModuleList(nn.Sequential(nn.Linear(paths * width, paths, bias=False)) for _ in range(depth))


def mix_along_paths(
    tokens: torch.Tensor,
    path_type: PathType,
    mixer: Callable[[torch.Tensor], torch.Tensor],
    gate: nn.Module | None,
) -> torch.Tensor:
    """Run a causal mixer along every path as one batch, put the tokens back in order, combine.

    Args:
        tokens: ``(B, L, C)``.
        path_type: The paths. A ``shuffle`` path follows a random order drawn here, on the CPU generator.
        mixer: Takes and returns ``(paths * B, L, C)``.
        gate: Takes the token means of all paths side by side, ``(B, paths * C)``, and returns one logit
            per path; the mean of the paths is taken when None.

    Returns:
        ``(B, L, C)``.
    """
    paths, order = [tokens], None
    if "reverse" in path_type:
        paths.append(tokens.flip(1))
    if "shuffle" in path_type:
        order = torch.randperm(tokens.shape[1]).to(tokens.device)
        paths.append(tokens[:, order])
    mixed = list(mixer(torch.cat(paths)).chunk(len(paths)))
    if "reverse" in path_type:
        mixed[1] = mixed[1].flip(1)
    if order is not None:
        mixed[2] = mixed[2][:, order.argsort()]
    if gate is None:
        return torch.stack(mixed).mean(0)
    weights = gate(torch.cat([path.mean(1) for path in mixed], dim=-1)).softmax(-1)
    return torch.einsum("pblc,bp->blc", torch.stack(mixed), weights)


OutType = Literal["featmap", "featmap_hwc", "raw", "cls_token", "avg_featmap"]
ClassPosition = Literal["none", "head", "middle", "tail"]

_SIZES = {
    ("s", "small"): (256, 16, 512),
    ("b", "base"): (256, 24, 512),
    ("l", "large"): (256, 28, 640),
    ("h", "huge"): (256, 32, 640),
    ("u", "uhuge2"): (256, 48, 640),
}
_ARCH_KEYS = ("embed_dims", "num_layers", "feedforward_channels")
ARCHS: dict[str, dict[str, int]] = {
    name: dict(zip(_ARCH_KEYS, sizes, strict=True)) for names, sizes in _SIZES.items() for name in names
}


def _check(value: str, kind: Any, name: str) -> None:
    """Refuse a string that is not one of a Literal's values, naming the nearest of them."""
    if value not in get_args(kind):
        known = get_args(kind)
        raise ConfigError(
            f"{name} {value!r} is not one of {', '.join(known)}",
            where="RSMamba",
            fix=nearest(value, known) or None,
        )


def _read_sizes(arch: str | Mapping[str, int]) -> Mapping[str, int]:
    """Return the three sizes that ``arch`` names or is."""
    if isinstance(arch, str):
        return read_arch("RSMamba", arch, ARCHS)
    if set(arch) != set(_ARCH_KEYS):
        raise ConfigError(f"an arch dict needs the keys {_ARCH_KEYS}, found {tuple(arch)}", where="RSMamba")
    return arch


def _read_indices(indices: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Return block indices, counted from the start, in block order."""
    listed = [indices] if isinstance(indices, int) else list(indices)
    wrong = [index for index in listed if not -depth <= index < depth]
    if wrong or not listed:
        raise ConfigError(f"out_indices {listed} do not fit {depth} blocks", where="RSMamba")
    return tuple(sorted({index % depth for index in listed}))


@MODELS.register_module()
class RSMamba(BaseModule):
    """A non-hierarchical encoder in which every block is one Mamba-1 mixer and nothing else.

    All blocks share one LayerNorm before the mixer. Each block runs its mixer along the tokens in row
    order and, by ``path_type``, also in reverse order and in a random order, and adds the mean or a
    gated sum of the paths. **The two ``shuffle`` types draw a new random order in every block, in
    evaluation too**, as published: their outputs repeat only under a fixed seed.

    Beyond the published encoder, which fails at other image sizes, ``pos_embed`` is resampled
    (``interpolate_mode``) when the token grid differs from its own: when a checkpoint made at another
    (square) size is loaded, and when an image of another size comes in. Both are logged; at the native
    size nothing changes.

    Args:
        arch: ``s``/``small``, ``b``/``base``, ``l``/``large``, ``h``/``huge``, ``u``/``uhuge2``, or a dict
            of ``embed_dims``, ``num_layers``, ``feedforward_channels`` (inner width of a mixer).
        pe_type: ``learnable``, or ``none`` for no position table.
        path_type: Directions in which a block reads the tokens, and how they are combined.
        cls_position: Where a class token stands among the patches. ``middle`` inserts it at L // 2 and, as
            published, reads it back at (L + 1) // 2: not the same token when the patch count L is odd.
        img_size: Native image size in pixels, a number or (height, width).
        patch_size: Pixels per token side.
        in_channels: Image channels.
        out_indices: Block(s) whose output is returned, negative from the end.
        drop_rate: Dropout after the position table.
        norm_cfg: Token norm.
        final_norm: Whether the output of the last block is normalised (``ln1``); others never are.
        out_type: ``featmap`` (B, C, h, w), ``featmap_hwc`` (B, h, w, C), ``raw`` (B, L, C) with the class
            token, ``cls_token`` (B, C), or ``avg_featmap`` (B, C), the normalised mean over the patches.
        with_cp: Recompute blocks in the backward pass instead of keeping their activations.
        frozen_stages: k > 0 freezes the embedding, the shared norm and the first k blocks (the last norms
            too when k is the depth).
        interpolate_mode: How the position table is resampled.
        patch_cfg: Overrides of the patch embedding, which has no bias by default.
        layer_cfgs: Overrides of every :class:`MambaMixer`.
        dt_init: See :class:`MambaMixer`.
        init_cfg: MMEngine's, such as ``dict(type='Pretrained', checkpoint=...)``.

    Attributes:
        out_channels: Channels of each returned output.
        out_strides: Pixels per cell of each returned output.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = "base",
        pe_type: str = "learnable",
        path_type: PathType = "forward_reverse_mean",
        cls_position: ClassPosition = "none",
        img_size: int | tuple[int, int] = 1024,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        drop_rate: float = 0.0,
        norm_cfg: Mapping[str, Any] = dict(type="LN", eps=1e-6),
        final_norm: bool = True,
        out_type: OutType = "avg_featmap",
        frozen_stages: int = -1,
        with_cp: bool = False,
        interpolate_mode: str = "bicubic",
        patch_cfg: Mapping[str, Any] | None = None,
        layer_cfgs: Mapping[str, Any] | None = None,
        dt_init: StepInit = "mamba",
        init_cfg: Mapping[str, Any] | list[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(path_type, PathType, "path_type")
        _check(out_type, OutType, "out_type")
        _check(cls_position, ClassPosition, "cls_position")
        _check(pe_type, Literal["learnable", "none"], "pe_type")
        if out_type == "cls_token" and cls_position == "none":
            raise ConfigError("out_type 'cls_token' needs a class token: set cls_position", where="RSMamba")
        sizes = _read_sizes(arch)
        width, depth = sizes["embed_dims"], sizes["num_layers"]
        self.path_type, self.out_type, self.cls_position = path_type, out_type, cls_position
        self.interpolate_mode, self.frozen_stages, self.with_cp = interpolate_mode, frozen_stages, with_cp
        self.out_indices = _read_indices(out_indices, depth)
        self.out_channels = (width,) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_indices)

        patch_options = dict(kernel_size=patch_size, stride=patch_size, bias=False) | dict(patch_cfg or {})
        self.patch_embed = PatchEmbed(in_channels, width, input_size=to_2tuple(img_size), **patch_options)
        self.grid: Grid = self.patch_embed.init_out_size
        patches = math.prod(self.grid)
        self.cls_token = None if cls_position == "none" else nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = None
        if pe_type == "learnable":
            table = torch.empty(1, patches + (self.cls_token is not None), width)
            self.pos_embed = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.drop_after_pos = nn.Dropout(drop_rate)
        self.layers = nn.ModuleList(
            MambaMixer(width, sizes["feedforward_channels"], dt_init=dt_init, **layer_cfgs or {})
            for _ in range(depth)
        )
        self.gate_layers = path_gates(path_type, width, depth)
        self.pre_norm = build_norm_layer(dict(norm_cfg), width)[1]
        self.ln1 = build_norm_layer(dict(norm_cfg), width)[1] if final_norm else nn.Identity()
        self.ln2 = build_norm_layer(dict(norm_cfg), width)[1] if out_type == "avg_featmap" else nn.Identity()
        self._freeze()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode ``image (B, C, H, W)``; one output per index of ``out_indices``, see ``out_type``."""
        tokens, grid = self.patch_embed(image)
        tokens = self.drop_after_pos(self._add_positions(tokens, grid))
        outputs = []
        for index in range(len(self.layers)):
            tokens = tokens + self._run_block(index, tokens)
            if index == len(self.layers) - 1:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outputs.append(self._shape_output(tokens, grid))
        return tuple(outputs)

    def train(self, mode: bool = True) -> "RSMamba":
        """Set the training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _add_positions(self, patches: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Insert the class token and add the position table, resampled to ``grid``."""
        if self.cls_token is not None:
            token = self.cls_token.expand(patches.shape[0], -1, -1)
            patches = insert_token(patches, token, self._class_index(patches.shape[1]))
        if self.pos_embed is None:
            return patches
        if grid != self.grid:
            _log_resize(self.grid, grid, "image")
        return patches + self._resized(self.pos_embed, self.grid, grid)

    def _class_index(self, patches: int) -> int:
        """Where the class token is inserted among so many patch tokens."""
        return {"head": 0, "middle": patches // 2, "tail": patches}[self.cls_position]

    def _resized(self, table: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
        """Resample a position table, leaving the entry of the class token as it is."""
        if self.cls_token is None:
            return resize_table(table, source, target, self.interpolate_mode)
        entry, rest = remove_token(table, self._class_index(math.prod(source)))
        rest = resize_table(rest, source, target, self.interpolate_mode)
        return insert_token(rest, entry, self._class_index(math.prod(target)))

    def _run_block(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        """Run a block, to be recomputed in the backward pass where ``with_cp`` asks for that."""
        if self.with_cp and self.training and torch.is_grad_enabled():
            # Random orders come back: the generators' states are kept.
            return checkpoint(self._block, index, tokens, use_reentrant=False)
        return self._block(index, tokens)

    def _block(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        """Return what block ``index`` adds to the tokens."""
        mixer, gate = self.layers[index], self.gate_layers[index] if self.gate_layers else None

        def normalise_and_mix(batch: torch.Tensor) -> torch.Tensor:
            return mixer(self.pre_norm(batch.to(self.pre_norm.weight.dtype)))

        return mix_along_paths(tokens, self.path_type, normalise_and_mix, gate)

    def _shape_output(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Bring the tokens of one block into the form of ``out_type``."""
        if self.out_type == "raw":
            return tokens
        if self.cls_token is not None:
            # The published code reads a middle token at half of *all* tokens, rounded down.
            index = (
                tokens.shape[1] // 2 if self.cls_position == "middle" else self._class_index(math.prod(grid))
            )
            token, tokens = remove_token(tokens, index)
            if self.out_type == "cls_token":
                return token[:, 0]
        if self.out_type == "avg_featmap":
            return self.ln2(tokens.mean(1))
        image = tokens.unflatten(1, grid)
        return image if self.out_type == "featmap_hwc" else image.permute(0, 3, 1, 2).contiguous()

    def _frozen_modules(self) -> list[nn.Module]:
        count = self.frozen_stages
        if count <= 0:
            return []
        frozen = [self.patch_embed, self.pre_norm, self.drop_after_pos]
        frozen += [*self.layers[:count], *self.gate_layers[:count]]
        return frozen + ([self.ln1, self.ln2] if count == len(self.layers) else [])

    def _freeze(self) -> None:
        if self.frozen_stages > len(self.layers):
            raise ConfigError(
                f"frozen_stages {self.frozen_stages} is more than the {len(self.layers)} blocks",
                where="RSMamba",
            )
        tensors = [p for module in self._frozen_modules() for p in module.parameters()]
        if tensors:
            tensors += [table for table in (self.pos_embed, self.cls_token) if table is not None]
        for tensor in tensors:
            tensor.requires_grad_(False)

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Resample a position table that was trained at another square image size, then load."""
        key = f"{prefix}pos_embed"
        if self.pos_embed is not None and key in state_dict:
            patches = state_dict[key].shape[1] - (self.cls_token is not None)
            side = math.isqrt(patches)
            if side * side == patches and patches != math.prod(self.grid):
                _log_resize((side, side), self.grid, "checkpoint")
                state_dict[key] = self._resized(state_dict[key], (side, side), self.grid)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@functools.lru_cache(maxsize=64)
def _log_resize(source: Grid, target: Grid, reason: str) -> None:
    """Say once per pair of sizes that positions are resampled."""
    print_log(
        f"RSMamba: position table of {source} tokens resampled to {target} for this {reason}",
        logger="current",
    )
