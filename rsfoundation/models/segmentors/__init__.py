"""Segmentors of two dates and their preprocessing."""
