"""The best checkpoint is kept by a metric that exists; where it does not, no training is lost."""

import json

import pytest
from tiny_task import write_config

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train

BEST = "default_hooks.checkpoint.save_best"


def test_training_is_saved_where_the_evaluator_does_not_report_the_metric(tmp_path):
    file = write_config(tmp_path, "default_hooks['checkpoint'].update(interval=4)\n")
    cfg = load_config(file, [f"{BEST}=acuracy"])
    with pytest.raises(ConfigError, match=r"does not report 'acuracy'.*reports accuracy, count") as caught:
        train(cfg, RunOptions(device="cpu", work_dir=tmp_path / "run"))
    assert caught.value.where == BEST
    assert "did you mean 'accuracy'?" in caught.value.fix and "--resume" in caught.value.fix
    # two of four epochs were trained, and the next checkpoint would have come after the fourth
    assert (tmp_path / "run" / "epoch_2.pth").is_file()
    done = train(file, RunOptions(device="cpu", work_dir=tmp_path / "run", resume="auto"))
    rows = json.loads((done.work_dir / "metrics.json").read_text())["val"]
    assert rows[-1]["epoch"] == 4
    assert list(done.work_dir.glob("best_accuracy_epoch_*.pth"))


def test_a_name_without_the_prefix_of_the_evaluators_is_refused_before_the_first_step(tmp_path):
    file = write_config(tmp_path, "val_evaluator['prefix'] = 'tiny'\n")
    with pytest.raises(ConfigError, match=r"no evaluator reports the metric 'accuracy'.* 'tiny/'") as caught:
        train(file, RunOptions(device="cpu", work_dir=tmp_path / "run"))
    assert caught.value.where == BEST and "tiny/accuracy" in caught.value.fix
    assert not list((tmp_path / "run").glob("epoch_*"))
    named = load_config(file, [f"{BEST}=tiny/accuracy"])
    done = train(named, RunOptions(device="cpu", work_dir=tmp_path / "run"))
    assert list((done.work_dir / "tiny").glob("best*")) or list(done.work_dir.glob("best_tiny_accuracy_*"))
