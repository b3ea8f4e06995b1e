"""Data sets of oriented boxes."""
