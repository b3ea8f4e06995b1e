"""RS4D's variants of SAM's image encoder: a mixture of experts in each block, and pruned linear layers."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn.utils import prune

from rsfoundation.models.encoders.sam_attention import SAMAttention
from rsfoundation.models.encoders.sam_vit import SAMViT
from rsfoundation.models.prompt.sam_wrappers import RSSamVisionEncoder
from rsfoundation.registry import MODELS

_EXPERTS, _HIDDEN = 8, 3072  # of the published layer, whatever its arguments say


@MODELS.register_module(name=["NoisyMixtureOfExperts", "NoisyMixtureOfExperts_seek"])
class NoisyMixtureOfExperts(nn.Module):
    """The best of eight linear experts for each token, weighted by its gate, and one shared projection.

    As published, the layer always has 8 experts of width 3072 without a nonlinearity, of which one is taken.
    Each token is computed by its own expert alone. In evaluation there is no noise, where the published
    code adds it too.

    Args:
        dim: Channels C of the tokens.
        num_experts: Accepted and not used, as ``expert_dim`` and ``top_k``: see above.
        expert_dim: See ``num_experts``.
        top_k: See ``num_experts``.
        noise_scale: Deviation of the noise on the gates in training.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int = _EXPERTS,
        expert_dim: int = _HIDDEN,
        top_k: int = 1,
        noise_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if (num_experts, expert_dim, top_k) != (_EXPERTS, _HIDDEN, 1):
            print_log(
                f"NoisyMixtureOfExperts has {_EXPERTS} experts of width {_HIDDEN} and takes the best one, as "
                f"published; num_experts={num_experts}, expert_dim={expert_dim}, top_k={top_k} are not used",
                logger="current",
            )
        self.experts = nn.ModuleList(nn.Linear(dim, _HIDDEN) for _ in range(_EXPERTS))
        self.gate = nn.Linear(dim, _EXPERTS)
        self.projection = nn.Linear(_HIDDEN, dim)
        self.noise_scale = noise_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens ``(..., C)`` of the same shape."""
        tokens = x.flatten(0, -2)
        logits = self.gate(tokens)
        if self.training and self.noise_scale:
            logits = logits + self.noise_scale * torch.randn_like(logits)
        weights, chosen = logits.softmax(dim=-1).max(dim=-1)
        hidden = tokens.new_zeros((len(tokens), _HIDDEN), dtype=logits.dtype)
        for index, expert in enumerate(self.experts):
            rows = (chosen == index).nonzero()[:, 0]
            # with no token too, so that every expert has a gradient in distributed training
            hidden = hidden.index_add(0, rows, expert(tokens[rows]).to(hidden.dtype))
        return (weights[:, None] * self.projection(hidden)).reshape(x.shape)


class _ExpertBlock(nn.Module):
    """SAM's block with experts in the place of the MLP."""

    def __init__(
        self, channels: int, hidden: int, hidden_act: str, eps: float, attention: SAMAttention
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = attention
        self.layer_norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = NoisyMixtureOfExperts(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _ExpertViT(SAMViT):
    block_type = _ExpertBlock


@MODELS.register_module(name=["RSSamVisionEncoderMoE", "RSSamVisionEncoder_moe"])
class RSSamVisionEncoderMoE(RSSamVisionEncoder):
    """SAM's image encoder with :class:`NoisyMixtureOfExperts` in each block, all of which see the whole map.

    Arguments: those of :class:`~rsfoundation.models.prompt.sam_wrappers.RSSamVisionEncoder`.
    """

    def build_encoder(self, arch: str, fields: dict[str, Any]) -> SAMViT:
        """Build the encoder.

        Args:
            arch: Size that gives the fields that are not set.
            fields: Of :class:`SAMViT`.
        """
        return _ExpertViT(arch, **{**fields, "window_size": 0})


@MODELS.register_module(name=["PrunedRSSamVisionEncoder", "RSSamVisionEncoder_prue"])
class PrunedRSSamVisionEncoder(RSSamVisionEncoder):
    """SAM's image encoder, whose smallest weights of every linear layer are zero and stay so.

    The zeros are chosen by :meth:`init_weights`, after the checkpoint is loaded, and are kept by a mask in
    training. They are not stored apart: where weights are loaded later, those that are zero stay zero. Names
    of weights do not change, nor does the speed.

    Args:
        amount: Share of the weights of each layer.
        **kwargs: Of :class:`~rsfoundation.models.prompt.sam_wrappers.RSSamVisionEncoder`.
    """

    def __init__(self, amount: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.amount = amount
        self._masks: dict[str, torch.Tensor] = {}

    def init_weights(self) -> None:
        """Initialise the encoder, load its checkpoint, and set its smallest weights to zero."""
        super().init_weights()
        for name, layer in self._linear_layers():
            prune.l1_unstructured(layer, "weight", amount=self.amount)
            self._masks[name] = layer.get_buffer("weight_mask").bool()
            prune.remove(layer, "weight")

    def forward(self, image: torch.Tensor) -> Any:
        """Encode ``image (N, bands, H, W)``, see :class:`SAMViT`."""
        with torch.no_grad():
            for name, layer in self._linear_layers():
                if name in self._masks:
                    self._masks[name] = self._masks[name].to(layer.weight.device)  # copied once
                    layer.weight.mul_(self._masks[name])
        return super().forward(image)

    def _linear_layers(self) -> list[tuple[str, nn.Linear]]:
        named = self.vision_encoder.named_modules()
        return [(name, layer) for name, layer in named if isinstance(layer, nn.Linear)]
