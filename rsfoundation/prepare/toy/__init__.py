"""Toy scenes: drawn aerial images with consistent labels for all five tasks."""

from rsfoundation.prepare.toy.make import DEFAULT_COUNTS, TASKS, ToyResult, make_toy_scenes

__all__ = ["DEFAULT_COUNTS", "TASKS", "ToyResult", "make_toy_scenes"]
