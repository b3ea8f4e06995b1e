"""Parts of oriented detectors that mmrotate lacks."""

from rsfoundation.detection.heads.align_conv import PerLevelAlignConv
from rsfoundation.detection.heads.angle_coder import OpenCVAngleCoder
from rsfoundation.detection.heads.gaussian_loss import SymmetricKLDLoss
from rsfoundation.detection.heads.midpoint_coder import MidpointOffsetCoder
from rsfoundation.detection.heads.pafpn import CSPNeXtPAFPN
from rsfoundation.detection.heads.roi_extractor import EnlargingRoIExtractor, RotatedSingleRoIExtractor
from rsfoundation.detection.heads.strip_head import StripHead
from rsfoundation.ops.roi_extractor import SingleRoIExtractor

__all__ = [
    "CSPNeXtPAFPN",
    "EnlargingRoIExtractor",
    "MidpointOffsetCoder",
    "OpenCVAngleCoder",
    "PerLevelAlignConv",
    "RotatedSingleRoIExtractor",
    "SingleRoIExtractor",
    "StripHead",
    "SymmetricKLDLoss",
]
