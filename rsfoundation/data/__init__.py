"""Data on disk: toy scenes, data set preparation, window grids."""
