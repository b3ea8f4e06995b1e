"""Backbones: one architecture, one file, registered once, shared by every task."""

from rsfoundation.backbones.lsknet import LSKNet
from rsfoundation.backbones.lwganet import LWGANet
from rsfoundation.backbones.rsmamba import RSMamba
from rsfoundation.backbones.stripnet import StripNet

__all__ = ["LSKNet", "LWGANet", "RSMamba", "StripNet"]
