"""Metrics, reports and server submissions."""
