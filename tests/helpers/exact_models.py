"""Models that see exactly what is in the pixels, for tests of everything around a model.

The red channel says the class: ``red // 30`` is the label of a pixel (segmentation), or the class of an
object plus one (detection, 0 is background). ``write_run`` makes a run folder that ``WindowModel`` opens.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from rsfoundation.registry import MODELS

STEP = 30
SEEN = []  # shapes of the batches that the models saw


class _Exact(BaseModel):
    def __init__(self, classes=7, fail_on=None):
        super().__init__(data_preprocessor=dict(type="mmengine.BaseDataPreprocessor"))
        self.classes, self.fail_on = classes, fail_on
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        SEEN.append(tuple(len(inputs) for _ in range(1)))
        if self.fail_on is not None and any(int((one == self.fail_on).any()) for one in inputs):
            raise RuntimeError("out of memory, or so")
        return [self.look(one.cpu().numpy()) for one in inputs]


@MODELS.register_module()
class ExactSegmentor(_Exact):
    """One logit of 10 for the class of each pixel."""

    def look(self, image):
        labels = torch.from_numpy(image[2].astype(np.int64) // STEP).clamp(max=self.classes - 1)
        logits = torch.nn.functional.one_hot(labels, self.classes).permute(2, 0, 1).float() * 10
        return SegDataSample(seg_logits=PixelData(data=logits))


@MODELS.register_module()
class ExactChange(_Exact):
    """A pixel changed where the red channels of the two dates differ."""

    def look(self, image):
        changed = torch.from_numpy((image[2] != image[5]).astype(np.int64))
        logits = torch.nn.functional.one_hot(changed, 2).permute(2, 0, 1).float() * 10
        return SegDataSample(seg_logits=PixelData(data=logits))


def components(image):
    """Return mask and label of every object of an image ``(C, H, W)``."""
    red = image[2]
    found = []
    for value in np.unique(red[red >= STEP]):
        count, parts = cv2.connectedComponents((red == value).astype(np.uint8), connectivity=4)
        found += [(parts == index, int(value) // STEP - 1) for index in range(1, count)]
    return found


@MODELS.register_module()
class ExactDetector(_Exact):
    """The smallest rectangle around what a window sees of each object; the score is its green value / 255."""

    def look(self, image):
        rows = []
        for mask, label in components(image):
            points = np.argwhere(mask)[:, ::-1]
            corners = np.concatenate(
                [points + offset for offset in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5))]
            )
            (cx, cy), (w, h), angle = cv2.minAreaRect(corners.astype(np.float32))
            if angle >= 90 or angle < -90:
                angle -= 180
            rows.append((cx, cy, w, h, np.deg2rad(angle), float(image[1][mask].mean()) / 255, label))
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
        instances = InstanceData(bboxes=table[:, :5], scores=table[:, 5], labels=table[:, 6].long())
        return DetDataSample(pred_instances=instances)


@MODELS.register_module()
class ExactInstances(_Exact):
    """The mask of what a window sees of each object; the score is its green value / 255."""

    def look(self, image):
        found = components(image)
        masks = np.stack([mask for mask, _ in found]) if found else np.zeros((0, *image.shape[1:]), bool)
        instances = InstanceData(
            masks=torch.from_numpy(masks),
            labels=torch.tensor([label for _, label in found], dtype=torch.long),
            scores=torch.tensor([float(image[1][mask].mean()) / 255 for mask, _ in found]),
        )
        return DetDataSample(pred_instances=instances)


_KINDS = {
    "segmentation": ("ExactSegmentor", "SemanticSegmentation", "mmseg.PackSegInputs"),
    "change": ("ExactChange", "ChangeDetection", "rsfoundation.MultiImgPackSegInputs"),
    "detection": ("ExactDetector", "OrientedDetection", "mmdet.PackDetInputs"),
    "instance": ("ExactInstances", "InstanceSegmentation", "mmdet.PackDetInputs"),
}


def write_run(folder: Path, kind: str, classes: int = 7, extra: str = "") -> Path:
    """Write a run folder of an exact model of a task; return it."""
    model, task, pack = _KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    meta = "meta_keys=('ori_shape', 'img_shape')"
    (folder / "config.py").write_text(
        "custom_imports = dict(imports=['exact_models'], allow_failed_imports=False)\n"
        "default_scope = 'mmengine'\n"
        f"task = dict(type='rsfoundation.{task}')\n"
        f"model = dict(type='rsfoundation.{model}', classes={classes})\n"
        f"pipeline = [dict(type='LoadImageFromFile'), dict(type='{pack}', {meta})]\n"
        "test_dataloader = dict(dataset=dict(pipeline=pipeline))\n"
        "predict = dict(window=64, overlap=16)\n" + extra
    )
    names = tuple(f"class{index}" for index in range(classes))
    if kind == "change":
        names = ("unchanged", "changed")
    meta = dict(
        classes=names, palette=[(37 * i % 256, 90 * i % 256, 200 - 11 * i % 200) for i in range(len(names))]
    )
    torch.save(
        dict(state_dict=dict(weight=torch.ones(1)), meta=dict(dataset_meta=meta)), folder / "epoch_1.pth"
    )
    (folder / "last_checkpoint").write_text(str(folder / "epoch_1.pth"))
    return folder
