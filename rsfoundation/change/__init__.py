"""Change detection on mmseg: two dates in, one change map out; type names are Open-CD's."""

from rsfoundation.change.dataset import BaseChangeDataset
from rsfoundation.change.fusion_neck import FeatureFusionNeck
from rsfoundation.change.metric import ChangeMetric
from rsfoundation.change.packing import MultiImgPackSegInputs
from rsfoundation.change.preprocessor import DualInputSegDataPreProcessor
from rsfoundation.change.public_datasets import LEVIR_CD_Dataset
from rsfoundation.change.segmentors import DIEncoderDecoder, SiamEncoderDecoder
from rsfoundation.change.task import ChangeDetection

from rsfoundation.change import geometry, loading, photometry  # noqa: F401  isort: skip  (register transforms)

__all__ = [
    "BaseChangeDataset",
    "ChangeDetection",
    "ChangeMetric",
    "DIEncoderDecoder",
    "DualInputSegDataPreProcessor",
    "FeatureFusionNeck",
    "LEVIR_CD_Dataset",
    "MultiImgPackSegInputs",
    "SiamEncoderDecoder",
]
