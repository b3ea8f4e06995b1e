"""Checkpoint files: read without running code from them, written so that a crash leaves the last good one."""

from rsfoundation.checkpoints.reading import read_checkpoint, trusting
from rsfoundation.checkpoints.safetensors_files import write_safetensors

__all__ = ["read_checkpoint", "trusting", "write_safetensors"]
