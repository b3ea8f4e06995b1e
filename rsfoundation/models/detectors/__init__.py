"""Detectors, and wrappers around them."""
