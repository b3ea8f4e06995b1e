"""Run by tests: kills feature dumps, or distillations, at random moments until they are done.

usage: distillation_kills.py dump|train FOLDER NUMBER-OF-KILLS SEED

The results are compared with those of a dump or a training that nobody disturbed.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from forks import fork, preload
from kills import Life, check, end_life
from locations import ROOT
from noisy_task import differences

from rsfoundation.engine.config import load_config
from rsfoundation.io.feature_cache import FeatureCache, FeatureWriter
from rsfoundation.prepare.features import prepare_features

IMAGES = 24
TEACHER = dict(hidden_size=32, num_hidden_layers=2, global_attn_indexes=[1], mlp_dim=32)
EPOCHS = 5


def draw_images(folder):
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        file = folder / ("val" if index >= 16 else "train") / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.resize(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), (64, 64)))


def config_of(name, folder):
    options = [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]
    cfg = load_config(ROOT / "configs" / "distill" / f"{name}.py", options)
    for part in ("train", "val", "test"):
        loader = cfg[f"{part}_dataloader"]
        loader.dataset.data_root = str(folder / ("train" if part == "train" else "val"))
        loader.pop("persistent_workers")
        for step in loader.dataset.pipeline:
            if "size" in step:
                step.size = 64
            if "crop_size" in step:
                step.crop_size = (64, 64)
    teacher = cfg.model.teacher.get("teacher") or cfg.model.teacher
    teacher.update(TEACHER, image_size=64)
    cfg.model.backbone.update(img_size=64, arch=dict(embed_dims=32, num_layers=1, feedforward_channels=32))
    return cfg


def kill_dumps(folder, kills, chance):
    draw_images(folder / "data")
    cfg = config_of("toy_sam_rsmamba_cached", folder / "data")
    whole = folder / "whole"
    prepare_features(cfg, whole, device="cpu", batch=2, workers=0)
    wanted = FeatureCache(whole)
    done, most, rounds = 0, 0, 0
    while done < kills:
        rounds += 1
        root, status = folder / f"cache{rounds}", None
        while status is None:
            reader, writer = os.pipe()
            child = fork(_dump, cfg, root, writer)
            os.close(writer)
            if done < kills:
                for _ in range(chance.randint(0, 3)):  # signs of maps that are about to be written
                    os.read(reader, 1)
                time.sleep(chance.uniform(0, 0.02))
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.close(reader)
            if status == -signal.SIGKILL:
                done, status = done + 1, None
                if (root / "description.json").is_file():
                    cache = FeatureCache(root)
                    assert not [*cache.damaged()], "a map that the index names is damaged"
                    most = max(most, len(cache))
        assert status == 0, "a continued dump failed"
        found = FeatureCache(root)
        assert found.entries.keys() == wanted.entries.keys()
        assert all((found.read(key) == wanted.read(key)).all() for key in wanted.entries)
    assert most > 2, "no kill came after the first maps"
    print(f"COUNTS kills={done} rounds={rounds} most={most}")


def _dump(cfg, root, writer):
    add = FeatureWriter.add

    def counted(self, maps):
        os.write(writer, b"b")
        add(self, maps)

    FeatureWriter.add = counted
    prepare_features(cfg, root, device="cpu", batch=2, workers=0)


def kill_trainings(folder, kills, chance):
    draw_images(folder / "data")
    cfg = config_of("toy_sam_rsmamba", folder / "data")
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS)
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=2)
    cfg.custom_hooks.append(dict(type="EMAHook", momentum=0.1, priority=49))
    whole = Life(cfg, folder / "whole", None)
    assert whole.wait() == 0
    saving, training = whole.lengths("b"), whole.lengths("e")
    done, rounds = 0, 0
    while done < kills:
        rounds += 1
        run, status = folder / f"run{rounds}", None
        while status is None:
            life = Life(cfg, run, "auto")
            if done < kills:
                status, _ = end_life(life, chance, saving, training)
                done += status is None
            else:
                status = life.wait()
            if run.is_dir():
                check(run)
        assert status == 0, "a resumed run failed"
        last = f"epoch_{EPOCHS}.pth"
        found = differences(folder / "whole" / last, run / last)
        # killed after the last save, a run validates once more and leaves that checkpoint as it is
        assert not {*found} - {".best", ".resume.validated"}, found[:5]
        scores = [json.loads((one / "metrics.json").read_text())["val"] for one in (folder / "whole", run)]
        assert scores[0] == scores[1] and (run / f"best_relative_error_epoch_{EPOCHS}.pth").is_file()
    print(f"COUNTS kills={done} rounds={rounds}")


if __name__ == "__main__":
    preload()
    work = {"dump": kill_dumps, "train": kill_trainings}[sys.argv[1]]
    work(Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4])))
