"""Plain encoders: one resolution from the first layer to the last."""
