"""Pairs of images on disk, made in code."""

import cv2
import numpy as np


def write_pair(root, name, size=(40, 50), label=True, seed=0):
    """Write ``A``, ``B`` and ``label`` of one pair; the right half changed. Return the three arrays (BGR)."""
    random = np.random.default_rng([seed, *name.encode()])
    before, after = (random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2))
    changed = np.zeros(size, np.uint8)
    changed[:, size[1] // 2 :] = 255
    for folder, picture in (("A", before), ("B", after), ("label", changed if label else None)):
        if picture is not None:
            (root / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / folder / f"{name}.png"), picture)
    return before, after, changed


def loaded(height=40, width=50, seed=0):
    """Results as the loading steps leave them; the second date is the first one's negative."""
    random = np.random.default_rng(seed)
    before = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    label = (before[..., 0] > 127).astype(np.uint8)  # the label can be read off the first date
    return dict(
        img=[before, 255 - before],
        img_shape=(height, width),
        ori_shape=(height, width),
        gt_seg_map=label,
        gt_seg_map_from=label.copy(),
        seg_fields=["gt_seg_map", "gt_seg_map_from"],
    )


def change_samples(*labels, **others):
    """Data samples with ``gt_sem_seg`` from arrays ``(H, W)``; ``others`` are further label maps."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for index, label in enumerate(labels):
        fields = {"gt_sem_seg": label, **{name: values[index] for name, values in others.items()}}
        pixels = {k: PixelData(data=torch.as_tensor(v).long()[None]) for k, v in fields.items()}
        samples.append(
            SegDataSample(metainfo=dict(ori_shape=tuple(label.shape), img_shape=tuple(label.shape)), **pixels)
        )
    return samples
