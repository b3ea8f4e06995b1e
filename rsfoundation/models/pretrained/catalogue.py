"""Published backbone weights as data: link, training data, licence, metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rsfoundation.core.errors import CheckpointError, nearest


@dataclass(frozen=True)
class Weights:
    """One published checkpoint.

    Attributes:
        name: Name in configs: ``checkpoint='lsknet_t-in1k'``.
        backbone: Type and arguments of the backbone it fits.
        url: Direct link; ``None`` where the authors share it by a drive page only.
        page: Page that describes it (and links to the drive).
        sha256: SHA-256 of the file in hex, or as many leading digits as are published; empty if unknown.
        licence: Licence of the weights, which is not that of this package.
        trained_on: Data set and schedule.
        metrics: Reported metrics, by name.
    """

    name: str
    backbone: Mapping[str, Any]
    url: str | None
    page: str
    sha256: str
    licence: str
    trained_on: str
    metrics: Mapping[str, float] = field(default_factory=dict)


_LSKNET_PAGE = "https://github.com/zcablii/LSKNet"
_STRIP_PAGE = "https://github.com/HVision-NKU/Strip-R-CNN"
_LWGANET_PAGE = "https://github.com/lwCVer/LWGANet"
_RSP_PAGE = "https://github.com/ViTAE-Transformer/RSP"
_OPENMMLAB = "https://download.openmmlab.com/mmrotate/v1.0/lsknet/backbones"
_NON_COMMERCIAL = "CC BY-NC 4.0"
_RSP_LICENCE = "MIT by its repository, research purpose only by its page"
_IN1K = "ImageNet-1k, 300 epochs"


def _million_aid(name: str, epochs: int, top1: float, top5: float, **backbone: Any) -> Weights:
    return Weights(
        name=f"{name}-millionaid",
        backbone=backbone,
        url=None,
        page=_RSP_PAGE,
        sha256="",
        licence=_RSP_LICENCE,
        trained_on=f"MillionAID (51 classes), {epochs} epochs",
        metrics={"MillionAID top-1": top1, "MillionAID top-5": top5},
    )


_TABLE = (
    Weights(
        name="lsknet_t-in1k",
        backbone=dict(type="LSKNet", arch="t"),
        url=f"{_OPENMMLAB}/lsk_t_backbone-2ef8a593.pth",
        page=_LSKNET_PAGE,
        sha256="2ef8a593",
        licence=_NON_COMMERCIAL,
        trained_on=_IN1K,
        metrics={"DOTA-1.0 mAP (Oriented R-CNN, multi-scale)": 81.37},
    ),
    Weights(
        name="lsknet_s-in1k",
        backbone=dict(type="LSKNet", arch="s"),
        url=f"{_OPENMMLAB}/lsk_s_backbone-e9d2e551.pth",
        page=_LSKNET_PAGE,
        sha256="e9d2e551",
        licence=_NON_COMMERCIAL,
        trained_on=_IN1K,
        metrics={"DOTA-1.0 mAP (Oriented R-CNN, multi-scale)": 81.64},
    ),
    Weights(
        name="stripnet_t-in1k",
        backbone=dict(type="StripNet", arch="t"),
        url=None,
        page=_STRIP_PAGE,
        sha256="",
        licence=_NON_COMMERCIAL,
        trained_on=_IN1K,
        metrics={"DOTA-1.0 mAP (Strip R-CNN, multi-scale)": 81.40},
    ),
    Weights(
        name="stripnet_s-in1k",
        backbone=dict(type="StripNet", arch="s"),
        url=None,
        page=_STRIP_PAGE,
        sha256="",
        licence=_NON_COMMERCIAL,
        trained_on=_IN1K,
        metrics={"DOTA-1.0 mAP (Strip R-CNN, multi-scale)": 82.28},
    ),
    *(
        Weights(
            name=f"lwganet_{arch}-in1k",
            backbone=dict(type="LWGANet", arch=arch),
            url=f"{_LWGANET_PAGE}/releases/download/weights/lwganet_{arch}_e{epoch}.pth",
            page=_LWGANET_PAGE,
            sha256="",
            licence=f"{_NON_COMMERCIAL} by its README (its licence file says MIT)",
            trained_on=_IN1K,
            metrics=metrics,
        )
        for arch, epoch, metrics in (
            ("l0", 299, {"NWPU top-1 (fine-tuned)": 95.49}),
            ("l1", 299, {"NWPU top-1 (fine-tuned)": 95.70}),
            ("l2", 296, {"NWPU top-1 (fine-tuned)": 96.17, "DOTA-1.0 mAP (Oriented R-CNN)": 79.02}),
        )
    ),
    *(
        Weights(
            name=f"sam_vit_{arch}-sa1b",
            backbone=dict(type="SAMViT", arch=arch),
            url=f"https://dl.fbaipublicfiles.com/segment_anything/sam_vit_{arch[0]}_{digits}.pth",
            page="https://github.com/facebookresearch/segment-anything",
            sha256=sha256,
            licence="Apache-2.0",
            trained_on="SA-1B (11 million images, 1.1 billion masks)",
            metrics={"NWPU VHR-10 mask AP (RSPrompter-query)": mask_ap},
        )
        for arch, digits, mask_ap, sha256 in (
            ("base", "01ec64", 65.7, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
            ("large", "0b3195", 66.0, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
            ("huge", "4b8939", 67.5, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        )
    ),
    _million_aid("rsp_resnet50", 300, 98.99, 99.82, type="RSPResNet", depth=50),
    _million_aid("rsp_swin_t", 300, 98.59, 99.88, type="RSPSwinTransformer", arch="t"),
    _million_aid("vitaev2_s", 100, 98.97, 99.88, type="ViTAEv2", arch="s"),
)

WEIGHTS: Mapping[str, Weights] = MappingProxyType({weights.name: weights for weights in _TABLE})


def find_weights(name: str) -> Weights:
    """Return the entry of a name.

    Raises:
        CheckpointError: The table has no such name.
    """
    if name not in WEIGHTS:
        raise CheckpointError(
            f"there is neither a file nor a published checkpoint named {name!r}",
            where="init_cfg.checkpoint",
            fix=nearest(name, WEIGHTS) or f"one of {', '.join(WEIGHTS)}",
        )
    return WEIGHTS[name]
