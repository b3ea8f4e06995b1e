"""Backbones with four stages (strides 4 to 32): one architecture, one file, shared by every task."""
