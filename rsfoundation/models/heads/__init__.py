"""Heads of every task."""
