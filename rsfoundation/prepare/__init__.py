"""From data sets as distributed to data sets as trained on; toy scenes."""
