"""Values of options that the library and the console share; importing this module loads nothing heavy."""

from typing import Literal

Launcher = Literal["none", "pytorch", "deepspeed", "slurm", "mpi"]  # program that started the ranks
Tracker = Literal["tensorboard", "wandb"]
Split = Literal["train", "val", "test"]
Precision = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["channels_last", "contiguous"]
WeightSelection = Literal["all", "trained", "adapters"]  # weights of a checkpoint to convert
TilingPreset = Literal["ss", "ms"]  # single-scale and multi-scale tiling of a data set
LabelFormat = Literal["dota", "coco", "yolo", "fair1m", "voc", "label-studio", "cvat", "gpkg", "geojson"]
InstanceSource = Literal["whu", "nwpu", "isaid", "masks"]  # of `rsf prepare instances`
PolygonSource = Literal["coco", "vector"]  # of `rsf prepare masks`
GroupBy = Literal["scene", "grid", "region"]  # what stays together in a split
BrowseStage = Literal["before", "after", "both"]  # of augmentation
FeatureFormat = Literal["int8", "fp16", "fp32"]  # of cached maps of a teacher
