"""Backbones: one architecture, one file, registered once, shared by every task."""

from rsfoundation.backbones.lsknet import LSKNet
from rsfoundation.backbones.rsmamba import RSMamba

__all__ = ["LSKNet", "RSMamba"]
