"""RSMamba: the state space encoder of RS4D (arXiv 2606.25324), a plain stack of Mamba-1 mixers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.utils import to_2tuple
from torch import nn

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.models.backbones.base import read_arch
from rsfoundation.models.encoders.base import Grid, PlainEncoder
from rsfoundation.models.layers import is_inference, is_plain, linear
from rsfoundation.ops import selective_scan
from rsfoundation.registry import MODELS

StepInit = Literal["mamba", "torch"]

# Range and floor of the first step sizes in the Mamba paper (arXiv 2312.00752, section 3.6).
_STEP_RANGE = (1e-3, 1e-1)
_STEP_FLOOR = 1e-4
_TOKENS_AT_A_TIME = 1024  # their intermediate results, about 10 MiB for RSMamba base, stay in a CPU's cache


@MODELS.register_module()
class MambaMixer(nn.Module):
    """Selective state space mixer of Mamba-1 (arXiv 2312.00752).

    Computes the same function as Hugging Face's mixer and as ``mamba_ssm``; a checkpoint of either
    loads key for key.

    Args:
        hidden_size: Token width C.
        intermediate_size: Inner width I.
        state_size: States N per inner channel.
        conv_kernel: Taps K of the causal depthwise convolution.
        time_step_rank: Rank R of the step size projection; ``ceil(C / 16)`` when None.
        use_conv_bias: Whether the convolution has a bias.
        use_bias: Whether the input and output projections have a bias.
        hidden_act: Name of a function of :mod:`torch.nn.functional`, for the tokens and for the gate.
        dt_init: ``mamba`` draws the first step sizes log-uniformly from [0.001, 0.1], which lets a
            network that trains from scratch remember hundreds of tokens; ``torch`` keeps PyTorch's
            defaults, which is what the published RS4D code did.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        state_size: int = 16,
        conv_kernel: int = 4,
        time_step_rank: int | None = None,
        use_conv_bias: bool = True,
        use_bias: bool = False,
        hidden_act: str = "silu",
        dt_init: StepInit = "mamba",
    ) -> None:
        super().__init__()
        if dt_init not in get_args(StepInit):
            raise ConfigError(f"dt_init {dt_init!r} is not one of {get_args(StepInit)}", where="MambaMixer")
        self.time_step_rank = time_step_rank or math.ceil(hidden_size / 16)
        self.state_size = state_size
        self.activation = getattr(F, hidden_act)
        self.A_log = nn.Parameter(torch.arange(1.0, state_size + 1).log().repeat(intermediate_size, 1))
        self.D = nn.Parameter(torch.ones(intermediate_size))
        self.conv1d = nn.Conv1d(
            intermediate_size,
            intermediate_size,
            conv_kernel,
            padding=conv_kernel - 1,
            groups=intermediate_size,
            bias=use_conv_bias,
        )
        self.in_proj = nn.Linear(hidden_size, 2 * intermediate_size, bias=use_bias)
        self.x_proj = nn.Linear(intermediate_size, self.time_step_rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(self.time_step_rank, intermediate_size)
        self.out_proj = nn.Linear(intermediate_size, hidden_size, bias=use_bias)
        if dt_init == "mamba":
            self._init_steps()

    @torch.no_grad()
    def _init_steps(self) -> None:
        """Draw ``softplus(dt_proj.bias)`` log-uniformly, and a weight that leaves it in that range."""
        bound = self.time_step_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = (math.log(step) for step in _STEP_RANGE)
        steps = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp().clamp(min=_STEP_FLOOR)
        self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix along the sequence, from its start to its end.

        Args:
            tokens: ``(B, L, C)``.

        Returns:
            ``(B, L, C)``; the token at t depends on the tokens up to t only.
        """
        if self.is_fast(tokens):
            return self.mix_fast(tokens, (False,))
        return self.out_proj(self.scan(self.project(tokens)))

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return inputs and gates, ``(B, L, 2 I)``, of tokens ``(B, L, C)``; it works on each by itself."""
        return linear(self.in_proj, tokens)

    def scan(self, projected: torch.Tensor) -> torch.Tensor:
        """Convolve, scan and gate the result of :meth:`project`; ``out_proj`` comes after it.

        Args:
            projected: ``(B, L, 2 I)``.

        Returns:
            ``(B, L, I)``.
        """
        length = projected.shape[1]
        x, gate = projected.transpose(1, 2).chunk(2, dim=1)
        x = self.activation(self.conv1d(x)[..., :length])
        sizes = [self.time_step_rank, self.state_size, self.state_size]
        steps, b, c = self.x_proj(x.transpose(1, 2)).split(sizes, dim=-1)
        delta, delta_bias = self._steps(steps)
        y = selective_scan(
            x,
            delta.transpose(1, 2),
            -self.A_log.float().exp(),
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.D.float(),
            delta_bias=delta_bias,
            delta_softplus=True,
        )
        return (y * self.activation(gate)).transpose(1, 2)

    def is_fast(self, tokens: torch.Tensor) -> bool:
        """Return whether :meth:`mix_fast` can mix these tokens: inference in float32 on a CPU."""
        single = tokens.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return (
            single
            and tokens.device.type == "cpu"
            and is_inference(self)
            and self.activation is F.silu
            and is_plain(self.conv1d, self.dt_proj)
        )

    def mix_fast(
        self,
        tokens: torch.Tensor,
        directions: Sequence[bool],
        norm: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return the mean of the mixer's results over directions, piece by piece within the cache.

        Args:
            tokens: ``(B, L, C)``.
            directions: For each direction, whether it is from the last token to the first.
            norm: Applied to the tokens first, if given.

        Returns:
            ``(B, L, C)``, tokens in order.
        """
        from rsfoundation.ops.mamba_scan_numba import TokenScan, causal_conv_silu  # loads numba

        batch, length, _ = tokens.shape
        inner, rank = len(self.D), self.time_step_rank
        step = max(1, _TOKENS_AT_A_TIME // batch)
        spans = [slice(start, min(start + step, length)) for start in range(0, length, step)]
        projected, mixed = tokens.new_empty(batch, length, 2 * inner), tokens.new_empty(batch, length, inner)
        for span in spans:
            projected[:, span] = self.project(tokens[:, span] if norm is None else norm(tokens[:, span]))
        rates, out = -self.A_log.exp(), torch.empty_like(tokens)
        for number, reverse in enumerate(directions):
            scan = TokenScan(rates, self.D, self.dt_proj.bias, reverse)
            state, last = scan.start(batch), number == len(directions) - 1
            for span in reversed(spans) if reverse else spans:
                u = causal_conv_silu(projected, self.conv1d.weight, self.conv1d.bias, reverse, span)
                parameters = linear(self.x_proj, u)
                delta = F.linear(parameters[..., :rank], self.dt_proj.weight)
                scan.run(u, delta, parameters[..., rank:], state, mixed, span.start, add=number > 0)
                if last:
                    gate = F.silu(projected[:, span, inner:])
                    out[:, span] = self.out_proj(gate.mul_(mixed[:, span]).mul_(1 / len(directions)))
        return out

    def _steps(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return step sizes before the softplus, and the bias that the scan adds to them."""
        if is_plain(self.dt_proj):
            return F.linear(steps, self.dt_proj.weight), self.dt_proj.bias.float()
        return self.dt_proj(steps), None


def insert_token(tokens: torch.Tensor, token: torch.Tensor, index: int) -> torch.Tensor:
    """Insert a token.

    Args:
        tokens: ``(B, L, C)``.
        token: ``(B, 1, C)``.
        index: Its index in the result, ``(B, L + 1, C)``.
    """
    return torch.cat([tokens[:, :index], token, tokens[:, index:]], dim=1)


def remove_token(tokens: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Separate a token from the others.

    Args:
        tokens: ``(B, L + 1, C)``.
        index: Index of the token.

    Returns:
        The token ``(B, 1, C)`` and the rest ``(B, L, C)``.
    """
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
    """Return one linear gate per block, or none; each is a Sequential because its key is ``i.0``.

    Args:
        path_type: The paths; only types that end in ``gate`` have gates.
        width: Channels of the tokens.
        depth: Number of blocks.
    """
    if not path_type.endswith("gate"):
        return nn.ModuleList()
    paths = 1 + ("reverse" in path_type) + ("shuffle" in path_type)
    return nn.ModuleList(nn.Sequential(nn.Linear(paths * width, paths, bias=False)) for _ in range(depth))


def mix_along_paths(
    tokens: torch.Tensor,
    path_type: PathType,
    scan: Callable[[torch.Tensor], torch.Tensor],
    gate: Callable[[Sequence[torch.Tensor]], torch.Tensor] | None,
) -> torch.Tensor:
    """Run a causal scan along every path as one batch, put the tokens back in order, combine.

    Args:
        tokens: ``(B, L, C)``.
        path_type: The paths. A ``shuffle`` path follows a random order drawn here, on the CPU generator.
        scan: Takes ``(paths * B, L, C)`` and returns ``(paths * B, L, I)``.
        gate: Takes the token means of all paths, ``(B, I)`` each, and returns one logit per path,
            ``(B, paths)``; the mean of the paths is taken when None.

    Returns:
        ``(B, L, I)``.
    """
    paths, order = [tokens], None
    if "reverse" in path_type:
        paths.append(tokens.flip(1))
    if "shuffle" in path_type:
        order = torch.randperm(tokens.shape[1]).to(tokens.device)
        paths.append(tokens[:, order])
    mixed = list(scan(torch.cat(paths)).chunk(len(paths)))
    if "reverse" in path_type:
        mixed[1] = mixed[1].flip(1)
    if order is not None:
        mixed[2] = mixed[2][:, order.argsort()]
    if gate is None:
        return torch.stack(mixed).mean(0)
    weights = gate([path.mean(1) for path in mixed]).softmax(-1)
    return torch.einsum("pblc,bp->blc", torch.stack(mixed), weights)


# Paths that are combined by their mean: whether each is from the last token to the first.
_FAST_PATHS: Mapping[str, tuple[bool, ...]] = {"forward": (False,), "forward_reverse_mean": (False, True)}

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


@MODELS.register_module()
class RSMamba(PlainEncoder):
    """A non-hierarchical encoder in which every block is one Mamba-1 mixer and nothing else.

    All blocks share one LayerNorm before the mixer. Each block runs its mixer along the tokens in row
    order and, by ``path_type``, also in reverse order and in a random order, and adds the mean or a
    gated sum of the paths. **The two ``shuffle`` types draw a new random order in every block, in
    evaluation too**, as published: their outputs repeat only under a fixed seed.

    The published encoder fails at other image sizes. Here ``pos_embed`` is resampled, see
    :class:`rsfoundation.models.encoders.base.PlainEncoder`.

    Args:
        arch: ``s``/``small``, ``b``/``base``, ``l``/``large``, ``h``/``huge``, ``u``/``uhuge2``, or a dict
            of ``embed_dims``, ``num_layers``, ``feedforward_channels`` (inner width of a mixer).
        pe_type: ``learnable``, or ``none`` for no position table.
        path_type: Directions in which a block reads the tokens, and how they are combined.
        cls_position: Position of a class token among the patches. ``middle`` inserts it at L // 2 and, as
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
        sizes = _read_sizes(arch)
        width, depth = sizes["embed_dims"], sizes["num_layers"]
        super().__init__(
            width,
            depth,
            img_size,
            patch_size,
            out_indices,
            frozen_stages,
            with_cp,
            interpolate_mode,
            init_cfg,
        )
        _check(path_type, PathType, "path_type")
        _check(out_type, OutType, "out_type")
        _check(cls_position, ClassPosition, "cls_position")
        _check(pe_type, Literal["learnable", "none"], "pe_type")
        if out_type == "cls_token" and cls_position == "none":
            raise ConfigError("out_type 'cls_token' needs a class token: set cls_position", where="RSMamba")
        self.path_type, self.out_type, self.cls_position = path_type, out_type, cls_position
        patch_options = dict(kernel_size=patch_size, stride=patch_size, bias=False) | dict(patch_cfg or {})
        self.patch_embed = PatchEmbed(in_channels, width, input_size=to_2tuple(img_size), **patch_options)
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
        self.freeze()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode ``image (B, C, H, W)``; one output per index of ``out_indices``, see ``out_type``."""
        states, _ = self.run_layers(image, self.out_indices)
        grid = self.token_grid(image.shape[2:])
        return tuple(self._shape_output(states[index], grid) for index in self.out_indices)

    def embed(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the tokens ``(B, L, C)`` of an image, class token included, and the position table."""
        tokens, grid = self.patch_embed(image)
        if self.cls_token is not None:
            token = self.cls_token.expand(tokens.shape[0], -1, -1)
            tokens = insert_token(tokens, token, self._class_index(tokens.shape[1]))
        position = self.positions(tuple(grid))
        return self.drop_after_pos(tokens if position is None else tokens + position), position

    def run_layer(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        """Run block ``index`` on tokens ``(B, L, C)``; the last one is followed by ``ln1``.

        Args:
            index: Number of the block, from 0.
            tokens: ``(B, L, C)``.
        """
        mixer = cast(MambaMixer, self.layers[index])
        linear_gate = self.gate_layers[index] if self.gate_layers else None

        def gate(means: Sequence[torch.Tensor]) -> torch.Tensor:
            assert linear_gate is not None
            return linear_gate(torch.cat([mixer.out_proj(mean) for mean in means], dim=-1))

        if self.path_type in _FAST_PATHS and mixer.is_fast(tokens):
            tokens = tokens + mixer.mix_fast(tokens, _FAST_PATHS[self.path_type], self.pre_norm)
        else:
            # The projections work on each token by itself: once for all paths.
            projected = mixer.project(self.pre_norm(tokens.to(self.pre_norm.weight.dtype)))
            choice = None if linear_gate is None else gate
            tokens = tokens + mixer.out_proj(mix_along_paths(projected, self.path_type, mixer.scan, choice))
        return self.ln1(tokens) if index == len(self.layers) - 1 else tokens

    def to_map(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Return patch tokens ``(B, L, C)`` as a map ``(B, C, h, w)``.

        Args:
            tokens: ``(B, L, C)``, class token included.
            grid: Rows and columns of the patches.
        """
        if self.cls_token is not None:
            tokens = self._split_class(tokens, grid)[1]
        return tokens.unflatten(1, grid).permute(0, 3, 1, 2).contiguous()

    def resample(self, table: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
        """Resample a position table, leaving the entry of the class token as it is.

        Args:
            table: ``(1, L, C)``, patches row-major over the grid ``source``.
            source: Rows and columns that the table was made for.
            target: Rows and columns that are wanted.
        """
        if self.cls_token is None:
            return super().resample(table, source, target)
        entry, rest = remove_token(table, self._class_index(math.prod(source)))
        return insert_token(
            super().resample(rest, source, target), entry, self._class_index(math.prod(target))
        )

    def _class_index(self, patches: int) -> int:
        """Return the index at which the class token is inserted among so many patch tokens."""
        return {"head": 0, "middle": patches // 2, "tail": patches}[self.cls_position]

    def _split_class(self, tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        """Separate the class token from the patches, as the published code reads it.

        It reads a middle token at half of *all* tokens, rounded down.
        """
        middle = self.cls_position == "middle"
        return remove_token(tokens, tokens.shape[1] // 2 if middle else self._class_index(math.prod(grid)))

    def _shape_output(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Return the tokens of one block as ``out_type`` says."""
        if self.out_type == "raw":
            return tokens
        if self.out_type == "cls_token":
            return self._split_class(tokens, grid)[0][:, 0]
        if self.out_type == "featmap":
            return self.to_map(tokens, grid)
        patches = tokens if self.cls_token is None else self._split_class(tokens, grid)[1]
        return self.ln2(patches.mean(1)) if self.out_type == "avg_featmap" else patches.unflatten(1, grid)

    def frozen_modules(self) -> list[nn.Module]:
        """Return the embedding, the shared norm and the frozen blocks; the last norms too with all blocks."""
        count = self.frozen_stages
        if count <= 0:
            return []
        frozen = [self.patch_embed, self.pre_norm, self.drop_after_pos]
        frozen += [*self.layers[:count], *self.gate_layers[:count]]
        return frozen + ([self.ln1, self.ln2] if count == len(self.layers) else [])

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return position table and class token from one frozen block on."""
        tables = (self.pos_embed, self.cls_token) if self.frozen_stages > 0 else ()
        return [table for table in tables if table is not None]

    def init_scratch(self) -> None:
        """Leave what the constructor initialised: PyTorch's defaults and :class:`MambaMixer`'s own."""
