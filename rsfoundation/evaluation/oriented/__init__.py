"""Average precision of oriented boxes."""
