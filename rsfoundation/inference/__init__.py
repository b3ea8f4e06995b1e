"""Whole scenes in, merged results and files out."""
