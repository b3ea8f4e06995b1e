"""Checks of data sets before the first epoch: files, labels, leakage between splits, a report to read."""
