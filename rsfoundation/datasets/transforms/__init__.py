"""Transforms of the training and test pipelines."""
