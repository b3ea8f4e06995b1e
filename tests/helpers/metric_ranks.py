"""Run by tests: evaluates ten samples on three ranks and on one, and leaves what each found.

usage: metric_ranks.py FOLDER. Leaves ``FOLDER/1`` and ``FOLDER/3`` with a JSON file for each metric, and the
archives of a submission.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator

from rsfoundation.registry import METRICS

CLASSES = ("ship", "plane")
SAMPLES = 10  # three ranks get four each: two samples come twice


def sample(index):
    """Make one patch of three images; objects of neighbouring patches overlap."""
    rng = np.random.default_rng(index)
    truth = np.column_stack(
        [rng.uniform(0, 100, (20, 2)), rng.uniform(8, 30, (20, 2)), rng.uniform(-1, 1, 20)]
    )
    found = np.concatenate([truth + rng.normal(0, 1, (20, 5)) * (1, 1, 1, 1, 0.05), truth[:5] + 9])
    labels = rng.integers(0, 2, 20)
    return {
        "img_id": f"P{index % 3}__100__{60 * (index // 3)}___0",
        "img_path": "P.png",
        "ori_shape": (100, 100),
        "pred_instances": {
            "bboxes": torch.tensor(found, dtype=torch.float32),
            "scores": torch.tensor(rng.integers(1, 20, 25) / 20, dtype=torch.float32),  # with ties
            "labels": torch.tensor(np.r_[labels, labels[:5]]),
        },
        "gt_instances": {
            "bboxes": torch.tensor(truth, dtype=torch.float32),
            "labels": torch.tensor(labels),
        },
        "ignored_instances": {},
        **label_maps(rng),
    }


def label_maps(rng):
    """Make label maps of two classes, whose prediction is mostly right."""
    truth = rng.integers(0, 2, (1, 12, 10))
    found = np.where(rng.random(truth.shape) < 0.8, truth, 1 - truth)
    return {"gt_sem_seg": {"data": torch.tensor(truth)}, "pred_sem_seg": {"data": torch.tensor(found)}}


def evaluate(folder):
    """Evaluate this rank's share."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    METRICS.import_from_location()
    mine = list(DefaultSampler(range(SAMPLES), shuffle=False, round_up=True))
    metrics = {
        "patches": dict(type="DOTAMetric"),
        "images": dict(type="DOTAMetric", full_images=True, matching="devkit", rule="voc12"),
        "submission": dict(type="DetectionSubmission", out="."),
        "segmentation": dict(type="SegmentationMetric", boundary_tolerance=1),
        "change": dict(
            type="ChangeMetric", class_name="plane", variants=("per_image", "per_batch"), batch_size=4
        ),
    }
    for name, settings in metrics.items():
        evaluator = Evaluator(METRICS.build(settings))
        evaluator.dataset_meta = {"classes": CLASSES}
        for start in range(0, len(mine), 3):  # the last batch is smaller
            batch = [sample(index) for index in mine[start : start + 3]]
            evaluator.metrics[0].process({}, batch)
        figures = evaluator.evaluate(SAMPLES)
        if not dist.is_initialized() or dist.get_rank() == 0:
            Path(f"{name}.json").write_text(json.dumps(figures, sort_keys=True))


def one_rank(rank, ranks, folder):
    """Join the others and evaluate."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    evaluate(folder / str(ranks))


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    context = multiprocessing.get_context("fork")  # the imports above are paid once
    ranks = [context.Process(target=one_rank, args=(rank, 3, folder)) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    if any(process.exitcode for process in ranks):
        sys.exit(1)
    evaluate(folder / "1")
