"""Strategies: DDP, FSDP, DeepSpeed; launch and heartbeat."""
