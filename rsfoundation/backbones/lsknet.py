"""LSKNet: large selective kernels for remote sensing (arXiv 2303.09030)."""

from collections.abc import Sequence
from typing import Any

from rsfoundation.backbones.base import read_arch
from rsfoundation.backbones.gated_conv import GatedConvArch, GatedConvBackbone, NormCfg
from rsfoundation.backbones.lsk_gate import LSKGate
from rsfoundation.registry import MODELS

ARCHS = {
    "t": GatedConvArch((32, 64, 160, 256), (3, 3, 5, 2)),
    "s": GatedConvArch((64, 128, 320, 512), (2, 2, 4, 2)),
}


@MODELS.register_module()
class LSKNet(GatedConvBackbone):
    """Gated convolution blocks whose gate chooses between a 5x5 and a 23x23 field at every position.

    Args:
        arch: ``'t'`` or ``'s'``.
        in_channels: Bands of the image.
        out_indices: Stages to return, counted from 0.
        drop_rate: Dropout of both MLP layers.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly from 0.
        norm_cfg: Batch norm, as MMCV reads it.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`rsfoundation.backbones.base.Backbone`.

    Raises:
        ConfigError: Unknown ``arch``, or stages that do not exist.
    """

    def __init__(
        self,
        arch: str,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: NormCfg = dict(type="BN"),  # noqa: B006 (read only)
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            read_arch("LSKNet", arch, ARCHS),
            LSKGate,
            in_channels=in_channels,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            norm_cfg=norm_cfg,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
