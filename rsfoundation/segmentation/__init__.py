"""Semantic segmentation: what mmseg lacks. Importing the package registers its parts."""

from rsfoundation.segmentation.datasets import ISPRSColourDataset, MaskDataset
from rsfoundation.segmentation.loading import LoadSegmentationMask
from rsfoundation.segmentation.metric import SegmentationMetric
from rsfoundation.segmentation.task import SemanticSegmentation

__all__ = [
    "ISPRSColourDataset",
    "LoadSegmentationMask",
    "MaskDataset",
    "SegmentationMetric",
    "SemanticSegmentation",
]
