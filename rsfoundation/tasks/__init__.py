"""One file for each task family: what it declares to engine, inference and console."""
