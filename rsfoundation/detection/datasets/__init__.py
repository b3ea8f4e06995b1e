"""Data sets of oriented boxes, and the rules they share. Importing the package registers them."""

from rsfoundation.detection.datasets.base import OrientedDataset
from rsfoundation.detection.datasets.dior import DIORDataset
from rsfoundation.detection.datasets.dota import DOTADataset
from rsfoundation.detection.datasets.fair1m import FAIR1MDataset
from rsfoundation.detection.datasets.hrsc import HRSCDataset
from rsfoundation.detection.datasets.sar_ships import CocoOrientedDataset, HRSIDDataset, SSDDDataset

__all__ = [
    "CocoOrientedDataset",
    "DIORDataset",
    "DOTADataset",
    "FAIR1MDataset",
    "HRSCDataset",
    "HRSIDDataset",
    "OrientedDataset",
    "SSDDDataset",
]
