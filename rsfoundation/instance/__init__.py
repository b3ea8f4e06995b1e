"""Instance segmentation: what mmdet lacks. Importing the package registers its parts."""

from rsfoundation.instance.coco_dataset import CocoInstanceDataset
from rsfoundation.instance.feature_aggregator import (
    PseudoFeatureAggregator,
    RSFeatureAggregator,
    RSFeaturePaAggregator,
)
from rsfoundation.instance.ln2d import LN2d
from rsfoundation.instance.rs_fpn import RSFPN
from rsfoundation.instance.sam_seg import SAMSegMaskRCNN
from rsfoundation.instance.simple_fpn import RSSimpleFPN, RSSimplePaFPN
from rsfoundation.instance.task import InstanceSegmentation
from rsfoundation.ops.roi_extractor import SingleRoIExtractor

__all__ = [
    "RSFPN",
    "CocoInstanceDataset",
    "InstanceSegmentation",
    "LN2d",
    "PseudoFeatureAggregator",
    "RSFeatureAggregator",
    "RSFeaturePaAggregator",
    "RSSimpleFPN",
    "RSSimplePaFPN",
    "SAMSegMaskRCNN",
    "SingleRoIExtractor",
]
