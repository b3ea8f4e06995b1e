"""Hooks that the engine adds to every run."""
