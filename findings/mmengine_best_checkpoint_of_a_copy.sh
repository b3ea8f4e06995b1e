#!/usr/bin/env bash
# onedl-mmengine 0.10.12 (a maintained fork of mmengine 0.10), torch 2.13.0, Python 3.11.
#
# CheckpointHook keeps the path of the best checkpoint so far, as an absolute path, in every checkpoint. Copy a
# run folder, resume in the copy, and as soon as the copy validates better the hook removes "the previous best
# checkpoint" by that path: the file of the original folder. The copy keeps both of its own. (The file
# `last_checkpoint` holds an absolute path, too: the copy resumes from the original's checkpoint.) Seen:
#
#   original before: best_acc_iter_2.pth
#   original after the copy was trained further: none
#   copy: best_acc_iter_2.pth best_acc_iter_4.pth
#
# To continue in a copy, remove `best_ckpt` from the message hub of the checkpoint, or resume in place.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" \
    torch==2.13.0 onedl-mmengine==0.10.12 "numpy<2.5" opencv-python-headless setuptools
cat > "$folder/copy_of_a_run.py" <<'PYTHON'
import logging
import shutil
import sys
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, mode="tensor"):
        out = self.layer(torch.stack(x))
        return {"loss": out.square().mean()} if mode == "loss" else [out]


class Growing(BaseMetric):
    """A validation that is better each time."""

    value = 0.0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Growing.value += 1
        return {"acc": Growing.value}


def run(folder, iterations, resume):
    loader = dict(batch_size=1, dataset=[{"x": torch.ones(1)}] * 4, sampler=dict(type="DefaultSampler", shuffle=False))
    runner = Runner(
        Model(),
        work_dir=str(folder),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=iterations, val_interval=2),
        val_cfg=dict(),
        val_evaluator=[Growing()],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2, save_best="acc", rule="greater")),
        resume=resume,
        log_level="ERROR",
        experiment_name=f"run{iterations}",
    )
    runner.train()


def best(folder):
    return sorted(file.name for file in folder.glob("best_*"))


root = Path(sys.argv[1]).resolve()
run(root / "original", 2, False)
before = best(root / "original")
shutil.copytree(root / "original", root / "copy")
run(root / "copy", 4, True)
after, copied = best(root / "original"), best(root / "copy")
print("original before:", *before)
print("original after the copy was trained further:", *(after or ["none"]))
print("copy:", *copied)
assert before == ["best_acc_iter_2.pth"] and after == [], "the behaviour has changed"
assert copied == ["best_acc_iter_2.pth", "best_acc_iter_4.pth"], "the behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" copy_of_a_run.py "$folder/runs" 2>"$folder/errors" || { tail -5 "$folder/errors" >&2; exit 1; }
