"""Training and testing: config, runner, checkpoints, distribution."""
