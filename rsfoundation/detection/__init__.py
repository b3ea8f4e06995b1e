"""Oriented detection: what mmrotate lacks. Importing the package registers its parts."""

from rsfoundation.detection.dota_dataset import DOTADataset
from rsfoundation.detection.heads import PerLevelAlignConv
from rsfoundation.detection.loading import LoadImageFromFile
from rsfoundation.detection.metric import DOTAMetric
from rsfoundation.detection.oriented_rpn_head import OrientedRPNHead
from rsfoundation.detection.task import OrientedDetection
from rsfoundation.detection.transforms import RandomFlip, RandomRotate, Rotate

__all__ = [
    "DOTADataset",
    "DOTAMetric",
    "LoadImageFromFile",
    "OrientedDetection",
    "OrientedRPNHead",
    "PerLevelAlignConv",
    "RandomFlip",
    "RandomRotate",
    "Rotate",
]
