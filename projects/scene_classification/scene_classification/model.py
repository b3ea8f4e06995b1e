"""A linear classifier on the last stage of any backbone."""

from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS as ANY_MODELS

from rsfoundation.registry import MODELS


@MODELS.register_module()
class MeanPoolClassifier(BaseModel):
    """Global average pooling and one linear layer.

    Args:
        backbone: Config of any registered backbone.
        num_classes: Number of classes.
    """

    def __init__(self, backbone: dict, num_classes: int) -> None:
        super().__init__(
            data_preprocessor=dict(
                type="mmengine.ImgDataPreprocessor",
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
            )
        )
        self.backbone = ANY_MODELS.build(backbone)
        self.head = torch.nn.Linear(self.backbone.out_channels[-1], num_classes)

    def forward(self, inputs: torch.Tensor, data_samples: list | None = None, mode: str = "tensor") -> Any:
        """Return logits, the loss, or the samples with ``scores``."""
        logits = self.head(self.backbone(inputs)[-1].mean(dim=(2, 3)))
        if mode == "loss":
            labels = torch.tensor([sample.label for sample in data_samples], device=logits.device)
            return dict(loss=torch.nn.functional.cross_entropy(logits, labels))
        if mode == "predict":
            for sample, scores in zip(data_samples, logits.softmax(1).cpu(), strict=True):
                sample.scores = scores
            return data_samples
        return logits
