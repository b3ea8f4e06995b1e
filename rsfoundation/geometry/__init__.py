"""Conventions for boxes, angles, pixels, masks and windows, stated once."""
