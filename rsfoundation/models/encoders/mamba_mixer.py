"""The Mamba-1 token mixer, with the parameter names of Hugging Face's ``MambaMixer``."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.layers import is_plain
from rsfoundation.ops import selective_scan
from rsfoundation.registry import MODELS

StepInit = Literal["mamba", "torch"]

# Range and floor of the first step sizes in the Mamba paper (arXiv 2312.00752, section 3.6).
_STEP_RANGE = (1e-3, 1e-1)
_STEP_FLOOR = 1e-4


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
        length = tokens.shape[1]
        x, gate = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
        x = self.activation(self.conv1d(x)[..., :length])
        steps, b, c = self.x_proj(x.transpose(1, 2)).split(
            [self.time_step_rank, self.state_size, self.state_size], dim=-1
        )
        if is_plain(self.dt_proj):  # the scan adds the bias itself
            delta, delta_bias = F.linear(steps, self.dt_proj.weight), self.dt_proj.bias.float()
        else:
            delta, delta_bias = self.dt_proj(steps), None
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
        return self.out_proj((y * self.activation(gate)).transpose(1, 2))
