"""Change detection on mmseg: two dates in, one change map out; type names are Open-CD's."""

from rsfoundation.change.bit_head import BITHead
from rsfoundation.change.changer_head import Changer
from rsfoundation.change.dataset import BaseChangeDataset
from rsfoundation.change.fusion_neck import FeatureFusionNeck
from rsfoundation.change.metric import ChangeMetric
from rsfoundation.change.packing import MultiImgPackSegInputs
from rsfoundation.change.preprocessor import DualInputSegDataPreProcessor
from rsfoundation.change.public_datasets import LEVIR_CD_Dataset
from rsfoundation.change.segmentors import DIEncoderDecoder, SiamEncoderDecoder
from rsfoundation.change.task import ChangeDetection

# isort: split
from rsfoundation.change import (  # noqa: F401  (register their parts)
    fc_siam,
    geometry,
    identity_head,
    interaction_backbones,
    loading,
    photometry,
    snunet,
    tinycd,
)

__all__ = [
    "BITHead",
    "BaseChangeDataset",
    "ChangeDetection",
    "ChangeMetric",
    "Changer",
    "DIEncoderDecoder",
    "DualInputSegDataPreProcessor",
    "FeatureFusionNeck",
    "LEVIR_CD_Dataset",
    "MultiImgPackSegInputs",
    "SiamEncoderDecoder",
]
