"""Making data sets ready for training: one module per kind of data."""
