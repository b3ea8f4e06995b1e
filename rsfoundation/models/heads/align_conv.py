"""S2ANet's alignment convolution with weights of its own at every pyramid level."""

from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleList
from mmrotate.models.layers import AlignConv
from torch import Tensor

from rsfoundation.registry import MODELS


@MODELS.register_module()
class PerLevelAlignConv(BaseModule):
    """``mmrotate.AlignConv`` as mmrotate 0.x has it: weights ``ac.<level>.deform_conv`` per level.

    mmrotate 1.x shares one set among all levels, so weights of 0.x cannot be loaded there.

    Args:
        feat_channels: Channels of every level, in and out.
        kernel_size: Side of the kernel, odd.
        strides: Stride of each level in pixels.
        deform_groups: Groups of the deformable convolution.
    """

    def __init__(
        self, feat_channels: int, kernel_size: int, strides: Sequence[int], deform_groups: int = 1
    ) -> None:
        super().__init__()
        self.ac = ModuleList(
            [AlignConv(feat_channels, kernel_size, [stride], deform_groups) for stride in strides]
        )

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Sample each map at the positions of the boxes found so far.

        Args:
            maps: ``(N, C, H, W)`` per level.
            boxes: Per image, per level ``(H * W, 5)`` boxes in image pixels, row by row.

        Returns:
            ``(N, C, H, W)`` per level.
        """
        return [
            align([level], [[image[index]] for image in boxes])[0]
            for index, (align, level) in enumerate(zip(self.ac, maps, strict=True))
        ]
