"""Data sets of every task."""
