"""Finding, resuming and converting checkpoints."""
