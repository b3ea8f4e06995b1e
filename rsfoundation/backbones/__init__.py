"""Backbones: one architecture, one file, registered once, shared by every task."""

from rsfoundation.backbones.lsknet import LSKNet
from rsfoundation.backbones.lwganet import LWGANet
from rsfoundation.backbones.plain_pyramid import PlainPyramid
from rsfoundation.backbones.resnet import RSPResNet
from rsfoundation.backbones.rsmamba import RSMamba
from rsfoundation.backbones.stripnet import StripNet
from rsfoundation.backbones.swin import RSPSwinTransformer
from rsfoundation.backbones.vitae import ViTAEv2

__all__ = [
    "LSKNet",
    "LWGANet",
    "PlainPyramid",
    "RSMamba",
    "RSPResNet",
    "RSPSwinTransformer",
    "StripNet",
    "ViTAEv2",
]
