"""Pixels, labels and checkpoints in and out of files."""
