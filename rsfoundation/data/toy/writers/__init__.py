"""One writer per task: how a scene is put on disk."""

from rsfoundation.data.toy.writers import change, detection, instance, segmentation
from rsfoundation.data.toy.writers.base import Record, SceneWriter

WRITERS: dict[str, SceneWriter] = {
    "detection": detection.WRITER,
    "segmentation": segmentation.WRITER,
    "instance": instance.WRITER,
    "change": change.WRITER,
}

__all__ = ["WRITERS", "Record", "SceneWriter"]
