"""Parts of oriented detectors that mmrotate lacks."""

from rsfoundation.detection.heads.align_conv import PerLevelAlignConv

__all__ = ["PerLevelAlignConv"]
