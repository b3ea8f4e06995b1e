"""RSPrompter's query heads (arXiv 2306.16269): queries of Mask2Former prompt SAM's mask decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.ops import point_sample
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.seg_heads import MaskFormerFusionHead
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmdet.structures import DetDataSample
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.prompt.features import (
    PromptFeatures,
    build_mask_decoder,
    content_size,
    interleaved_prompts,
    load_prompt_part,
)
from rsfoundation.models.prompt.sam_prompt import SAMMaskEmbedding
from rsfoundation.registry import MODELS

Fields = Mapping[str, Any]
_PLUS = "_plus"  # ends the names of the losses of coarse masks, as in the published logs


@MODELS.register_module()
class RSMask2FormerHead(Mask2FormerHead):
    """Mask2Former's head, whose coarse masks and queries prompt SAM's decoder for fine masks.

    Coarse masks (the published "plus") guide the attention of the next layer and the matching; both kinds are
    trained. In evaluation, SAM's decoder runs for the last layer only.

    Args:
        mask_decoder: Config of ``RSSamMaskDecoder``; the embedding of masks comes from its checkpoint.
        per_pointset_point: Prompts K of each query.
        with_sincos: Add a sine to the prompts.
        multimask_output: Must be False.
        decoder_plus: Must be True: without coarse masks the published head cannot be trained.
        mask_input_channels: Of SAM's embedding of masks.
        **kwargs: Of mmdet's ``Mask2FormerHead``.

    Raises:
        ConfigError: An option has a value that the published head cannot train with.
    """

    def __init__(
        self,
        mask_decoder: Fields,
        per_pointset_point: int = 5,
        with_sincos: bool = True,
        multimask_output: bool = False,
        decoder_plus: bool = True,
        mask_input_channels: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if multimask_output or not decoder_plus:
            raise ConfigError(
                f"multimask_output is {multimask_output}, decoder_plus {decoder_plus}",
                where="RSMask2FormerHead",
                fix="multimask_output=False, decoder_plus=True",
            )
        self.per_pointset_point, self.with_sincos = per_pointset_point, with_sincos
        self.mask_decoder, width = build_mask_decoder(mask_decoder)
        channels = self.decoder_embed_dims
        self.sam_mask_embed = SAMMaskEmbedding(width, mask_input_channels, layer_norm_eps=1e-6)
        self.cls_embed = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, self.num_classes + 1)
        )
        self.point_emb = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 2, channels // 2),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 2, width * per_pointset_point * (2 if with_sincos else 1)),
        )

    def init_weights(self) -> None:
        """Initialise as Mask2Former does, and load SAM's parts."""
        super().init_weights()
        self.mask_decoder.init_weights()
        load_prompt_part(self.sam_mask_embed, "mask_embed", self.mask_decoder)

    def freeze_decoder(self) -> None:
        """Freeze what comes from SAM: the mask decoder and the embedding of masks."""
        self.mask_decoder.requires_grad_(False)
        self.sam_mask_embed.requires_grad_(False)

    def loss(self, x: PromptFeatures, batch_data_samples: Sequence[DetDataSample]) -> dict[str, torch.Tensor]:
        """Return the losses of every decoder layer.

        Args:
            x: Levels and image embedding.
            batch_data_samples: The objects of each image.
        """
        return super().loss(x.joined(), batch_data_samples)

    def forward(
        self,
        x: PromptFeatures | tuple[torch.Tensor, ...],
        batch_data_samples: Sequence[DetDataSample] | None = None,
    ) -> tuple[list[torch.Tensor], list[tuple[torch.Tensor | None, torch.Tensor]]]:
        """Return class logits, and fine and coarse mask logits, before and after every decoder layer.

        Args:
            x: Levels and image embedding, or the tuple that :meth:`PromptFeatures.joined` makes of them.
            batch_data_samples: Not used.

        Returns:
            Class logits ``(N, Q, classes + 1)`` of each layer; pairs of fine masks ``(N, Q, 4 h, 4 w)`` (None
            in evaluation but for the last layer) and coarse ones ``(N, Q, H', W')``.
        """
        x = x if isinstance(x, PromptFeatures) else PromptFeatures.split(x)
        mask_features, memories = self.pixel_decoder(list(x))
        levels = [self._memory(index, memory) for index, memory in enumerate(memories)]
        queries = self.query_feat.weight.expand(len(x[0]), -1, -1)
        query_positions = self.query_embed.weight.expand(len(x[0]), -1, -1)
        classes, masks = [], []
        for index in range(self.num_transformer_decoder_layers + 1):
            normed = self.transformer_decoder.post_norm(queries)
            coarse = torch.einsum("bqc,bchw->bqhw", self.mask_embed(normed), mask_features)
            is_last = index == self.num_transformer_decoder_layers
            fine = self._fine_masks(normed, coarse, x) if self.training or is_last else None
            classes.append(self.cls_embed(normed))
            masks.append((fine, coarse))
            if is_last:
                break
            tokens, positions, size = levels[index % self.num_transformer_feat_level]
            queries = self.transformer_decoder.layers[index](
                query=queries,
                key=tokens,
                value=tokens,
                query_pos=query_positions,
                key_pos=positions,
                cross_attn_mask=self._attention_mask(coarse, size),
                query_key_padding_mask=None,
                key_padding_mask=None,
            )
        return classes, masks

    def _memory(self, index: int, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        """Return tokens, positions and size of a level of the pixel decoder, for the cross attention."""
        rows, columns = memory.shape[2:]
        tokens = self.decoder_input_projs[index](memory).flatten(2).transpose(1, 2)
        tokens = tokens + self.level_embed.weight[index]
        padding = memory.new_zeros((len(memory), rows, columns), dtype=torch.bool)
        positions = self.decoder_positional_encoding(padding).flatten(2).transpose(1, 2)
        return tokens, positions.to(tokens.dtype), (rows, columns)

    def _attention_mask(self, coarse: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return where a query must not look, ``(N * heads, Q, h * w)``; never everywhere."""
        logits = F.interpolate(coarse.detach(), size, mode="bilinear", align_corners=False).flatten(2)
        outside = logits.sigmoid() < 0.5
        outside = outside & ~outside.all(dim=-1, keepdim=True)
        return outside.repeat_interleave(self.num_heads, dim=0)

    def _fine_masks(self, queries: torch.Tensor, coarse: torch.Tensor, x: PromptFeatures) -> torch.Tensor:
        """Return what SAM's decoder makes of the queries and their coarse masks, ``(N, Q, 4 h, 4 w)``."""
        count, amount = queries.shape[:2]
        prompts = interleaved_prompts(self.point_emb(queries), self.per_pointset_point, self.with_sincos)
        rows, columns = x.embedding.shape[2:]
        hints = coarse.detach().flatten(0, 1)[:, None]
        if hints.shape[2:] != (4 * rows, 4 * columns):
            hints = F.interpolate(hints, (4 * rows, 4 * columns), mode="bilinear", align_corners=False)
        masks, _ = self.mask_decoder(
            x.embedding.repeat_interleave(amount, dim=0),
            x.positions,
            prompts.flatten(0, 1)[:, None],
            self.sam_mask_embed(hints),
            multimask_output=False,
        )
        return masks.reshape(count, amount, *masks.shape[3:])

    def loss_by_feat(
        self,
        all_cls_scores: Sequence[torch.Tensor],
        all_mask_preds: Sequence[tuple[torch.Tensor, torch.Tensor]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict[str, Any]],
    ) -> dict[str, torch.Tensor]:
        """Return the losses of every layer; those before the last are named ``d0.`` and so on.

        Args:
            all_cls_scores: See :meth:`forward`.
            all_mask_preds: See :meth:`forward`.
            batch_gt_instances: Objects with ``labels`` and ``masks`` tensors.
            batch_img_metas: Image info.
        """
        losses = {}
        last = len(all_cls_scores) - 1
        for index, (scores, (fine, coarse)) in enumerate(zip(all_cls_scores, all_mask_preds, strict=True)):
            found = self._layer_losses(scores, fine, coarse, batch_gt_instances, batch_img_metas)
            prefix = "" if index == last else f"d{index}."
            losses.update({f"{prefix}{name}": value for name, value in found.items()})
        return losses

    def _layer_losses(
        self,
        scores: torch.Tensor,
        fine: torch.Tensor,
        coarse: torch.Tensor,
        truth: list[InstanceData],
        metas: list[dict[str, Any]],
    ) -> dict[str, torch.Tensor]:
        labels, label_weights, targets, weights, matched = self.get_targets(
            list(scores), list(coarse), truth, metas
        )
        flat_labels = torch.cat(labels)
        class_weight = scores.new_tensor(self.class_weight)
        losses = dict(
            loss_cls=self.loss_cls(
                scores.flatten(0, 1),
                flat_labels,
                torch.cat(label_weights),
                avg_factor=class_weight[flat_labels].sum(),
            )
        )
        positive = torch.stack(weights) > 0
        fine, coarse, true_masks = fine[positive], coarse[positive], torch.cat(targets)
        if len(true_masks) == 0:
            for name, masks in (("", fine), (_PLUS, coarse)):
                losses[f"loss_mask{name}"] = losses[f"loss_dice{name}"] = masks.sum()
            return losses
        total = reduce_mean(scores.new_tensor([matched])).clamp(min=1)
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                fine[:, None], None, self.num_points, self.oversample_ratio, self.importance_sample_ratio
            )
            wanted = point_sample(true_masks[:, None].float(), points)[:, 0]
        for name, masks in (("", fine), (_PLUS, coarse)):
            sampled = point_sample(masks[:, None], points)[:, 0]
            # averaged over the points: their number times the masks is beyond float16
            losses[f"loss_mask{name}"] = self.loss_mask(sampled.reshape(-1), wanted.reshape(-1))
            losses[f"loss_dice{name}"] = self.loss_dice(sampled, wanted, avg_factor=total)
        return losses

    def predict(
        self, x: PromptFeatures, batch_data_samples: Sequence[DetDataSample]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class logits ``(N, Q, classes + 1)`` and fine masks at the size of the padded input.

        Args:
            x: Levels and image embedding.
            batch_data_samples: With image info.
        """
        classes, masks = self(x.joined(), batch_data_samples)
        size = tuple(batch_data_samples[0].metainfo["batch_input_shape"])
        return classes[-1], F.interpolate(masks[-1][0], size, mode="bilinear", align_corners=False)


@MODELS.register_module()
class RSMaskFormerFusionHead(MaskFormerFusionHead):
    """Instances from queries, cut to what the image fills of the padded input, not to ``img_shape``.

    The published test pipeline pads images before they are packed, so that ``img_shape`` holds the padding.
    """

    def predict(
        self,
        mask_cls_results: torch.Tensor,
        mask_pred_results: torch.Tensor,
        batch_data_samples: Sequence[DetDataSample],
        rescale: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Return the instances of each image.

        Args:
            mask_cls_results: ``(N, Q, classes + 1)``.
            mask_pred_results: ``(N, Q, H, W)``.
            batch_data_samples: With image info.
            rescale: Whether masks have the size of the image file.
            **kwargs: Of the base class.
        """
        filled = [
            DetDataSample(metainfo={**sample.metainfo, "img_shape": content_size(sample.metainfo)})
            for sample in batch_data_samples
        ]
        return super().predict(mask_cls_results, mask_pred_results, filled, rescale, **kwargs)
