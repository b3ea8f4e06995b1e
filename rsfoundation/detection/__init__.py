"""Oriented detection: what mmrotate lacks. Importing the package registers its parts."""

from rsfoundation.detection.datasets import (
    CocoOrientedDataset,
    DIORDataset,
    DOTADataset,
    FAIR1MDataset,
    HRSCDataset,
    HRSIDDataset,
    SSDDDataset,
)
from rsfoundation.detection.heads import PerLevelAlignConv
from rsfoundation.detection.loading import LoadImageFromFile
from rsfoundation.detection.metric import DOTAMetric
from rsfoundation.detection.oriented_rpn_head import OrientedRPNHead
from rsfoundation.detection.sampler import NeighbourSampler
from rsfoundation.detection.submission.hook import SubmissionCheckHook
from rsfoundation.detection.task import OrientedDetection
from rsfoundation.detection.transforms import RandomFlip, RandomRotate, Rotate

__all__ = [
    "CocoOrientedDataset",
    "DIORDataset",
    "DOTADataset",
    "DOTAMetric",
    "FAIR1MDataset",
    "HRSCDataset",
    "HRSIDDataset",
    "LoadImageFromFile",
    "NeighbourSampler",
    "OrientedDetection",
    "OrientedRPNHead",
    "PerLevelAlignConv",
    "RandomFlip",
    "RandomRotate",
    "Rotate",
    "SSDDDataset",
    "SubmissionCheckHook",
]
