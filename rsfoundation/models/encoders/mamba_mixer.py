"""The Mamba-1 token mixer, with the parameter names of Hugging Face's ``MambaMixer``."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from rsfoundation.core.errors import ConfigError
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
        steps, b, c = self.x_proj(x.transpose(1, 2)).split(self._split, dim=-1)
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
        from rsfoundation.ops.mamba_tokens import TokenScan, causal_conv_silu  # loads numba

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

    @property
    def _split(self) -> list[int]:
        return [self.time_step_rank, self.state_size, self.state_size]

    def _steps(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return step sizes before the softplus, and the bias that the scan adds to them."""
        if is_plain(self.dt_proj):
            return F.linear(steps, self.dt_proj.weight), self.dt_proj.bias.float()
        return self.dt_proj(steps), None
