"""Hooks that the engine adds to every run."""

from rsfoundation.engine.hooks.checkpoint import CheckpointHook
from rsfoundation.engine.hooks.class_count import ClassCountHook
from rsfoundation.engine.hooks.lora import LoRAHook
from rsfoundation.engine.hooks.pictures import PictureHook
from rsfoundation.engine.hooks.progress import ProgressHook
from rsfoundation.engine.hooks.run_record import RunRecordHook

__all__ = ["CheckpointHook", "ClassCountHook", "LoRAHook", "PictureHook", "ProgressHook", "RunRecordHook"]
