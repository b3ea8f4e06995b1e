"""One pure function makes every change to a config; the run folder records its result."""

import copy
import os
import subprocess
import sys

import pytest
from locations import HELPERS, ROOT
from mmengine.config import Config

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import RunRequest
from rsfoundation.engine.config import build_task, load_config
from rsfoundation.engine.resolve_config import RunOptions, resolve_config
from rsfoundation.engine.train import train


def resolved(config, *overrides, **options):
    cfg = load_config(config, overrides)
    before = copy.deepcopy(cfg.to_dict())
    run = resolve_config(cfg, RunOptions(**options), build_task(cfg))
    assert cfg.to_dict() == before, "the config as read is left alone"
    return run


WARM_UP = "dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=2, end=10)"


@pytest.mark.parametrize(
    ("schedule", "counts", "warned"),
    [(WARM_UP, 4, True), (WARM_UP, 1, False), (WARM_UP.replace("False", "True"), 4, False)],
)
def test_a_warm_up_shortened_by_accumulation_is_named(tiny_config, schedule, counts, warned):
    tiny_config.write_text(tiny_config.read_text() + f"param_scheduler = [{schedule}]\n")
    run = resolved(tiny_config, f"optim_wrapper.accumulative_counts={counts}")
    expected = (
        "param_scheduler[0]: the warm-up ends after 2 optimiser steps, since it counts iterations (8) and "
        "accumulative_counts=4; for 8 steps set end=34",
    )
    assert run.warnings == (expected if warned else ())


OPTIONS = {
    "plain": dict(),
    "amp and trackers": dict(amp=True, track=("tensorboard",)),
    "zero2": dict(strategy="deepspeed-zero2", overrides=("optim_wrapper.clip_grad.max_norm=1",)),
    "lora": dict(overrides=("lora.rank=2", "lora.scope=body", "lora.target=['0']")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_the_run_folder_records_the_resolved_config(tiny_config, name, tmp_path):
    """Runners, hooks and DeepSpeed edit copies: they leave the config of the run alone."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from rsfoundation.engine import train as module\n"
        "from rsfoundation.engine.resolve_config import RunOptions\n"
        "kept = []\n"
        "original = module.resolve_config\n"
        "def resolve(*args, **kwargs):\n"
        "    run = original(*args, **kwargs)\n"
        "    kept.append((run.cfg, run.cfg.pretty_text))\n"
        "    return run\n"
        "module.resolve_config = resolve\n"
        f"module.train({str(tiny_config)!r}, RunOptions('run', device='cpu', **{OPTIONS[name]!r}))\n"
        "cfg, text = kept[0]\n"
        "assert cfg.pretty_text == text, 'edited after it was resolved'\n"
        "from mmengine.config import Config\n"
        "assert Config.fromfile('run/config.py').to_dict() == cfg.to_dict()\n"
    )
    paths = os.pathsep.join((str(ROOT), str(HELPERS)))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_recorded_config_trains_again_as_it_is(tiny_config):
    folder = tiny_config.parent / "run"
    train(tiny_config, RunOptions(folder, device="cpu", overrides=("train_cfg.max_epochs=1",)))
    recorded = Config.fromfile(folder / "config.py")
    again = resolve_config(recorded, RunOptions(folder, device="cpu"), build_task(recorded)).cfg
    assert again.to_dict() == recorded.to_dict()


def test_a_gpu_reads_pinned_memory(tiny_config):
    cfg = load_config(tiny_config, ("val_dataloader.pin_memory=False",))
    cfg.model = dict(data_preprocessor=dict(type="mmdet.DetDataPreprocessor"))
    task = build_task(cfg)
    on_gpu = resolve_config(cfg, RunOptions(), task, device="cuda").cfg
    assert on_gpu.train_dataloader.pin_memory is True
    assert on_gpu.val_dataloader.pin_memory is False  # the config's own choice
    assert on_gpu.model.data_preprocessor.non_blocking is True
    on_cpu = resolve_config(on_gpu, RunOptions(), task, device="cpu").cfg
    assert "pin_memory" not in on_cpu.train_dataloader


def test_a_preprocessor_that_cannot_go_on_is_left_alone(tiny_config):
    cfg = load_config(tiny_config)
    cfg.model = dict(data_preprocessor=dict(type="SegDataPreProcessor"))
    on_gpu = resolve_config(cfg, RunOptions(), build_task(cfg), device="cuda").cfg
    assert "non_blocking" not in on_gpu.model.data_preprocessor


@pytest.mark.parametrize("as_file", [True, False])
def test_options_read_a_file_and_a_config_alike(tiny_config, as_file):
    """A config that was read before takes overrides, bands and range, too, and stays as it is."""
    config = tiny_config if as_file else load_config(tiny_config)
    before = None if as_file else copy.deepcopy(config.to_dict())
    options = RunOptions(overrides=("train_cfg.max_epochs=7",), bands="4,3,2", pixel_range="0,2047")
    cfg = options.read(config)
    assert cfg.train_cfg.max_epochs == 7
    assert dict(cfg.image_loading) == {"bands": [4, 3, 2], "pixel_range": [0, 2047]}
    assert as_file or config.to_dict() == before


def compile_hooks(run):
    return [hook for hook in run.cfg.get("custom_hooks") or [] if hook.type == "rsfoundation.CompileHook"]


def test_compile_is_a_hook_with_torch_compile_s_options(tiny_config, monkeypatch):
    monkeypatch.setenv("CXX", sys.executable)  # any program that is there
    assert compile_hooks(resolved(tiny_config)) == []
    assert compile_hooks(resolved(tiny_config, compiled=True)) == [dict(type="rsfoundation.CompileHook")]
    run = resolved(tiny_config, "compile_backbone.mode=max-autotune", compiled=True)
    assert compile_hooks(run) == [dict(type="rsfoundation.CompileHook", mode="max-autotune")]
    again = resolve_config(run.cfg, RunOptions(compiled=True), run.task)
    assert len(compile_hooks(again)) == 1, "a recorded config trains again as it is"
    tested = resolve_config(load_config(tiny_config), RunOptions(compiled=True), run.task, RunRequest("test"))
    assert compile_hooks(tested) == []


def test_compile_without_a_compiler_and_with_a_wrong_value(tiny_config, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="no 'no-such-compiler'") as caught:
        resolved(tiny_config, compiled=True)
    assert caught.value.where == "--compile" and "CXX" in caught.value.fix
    assert compile_hooks(resolved(tiny_config, "compile_backbone.backend=eager")), "needs no compiler"
    with pytest.raises(ConfigError, match="compile_backbone is 'fast'"):
        resolved(tiny_config, "compile_backbone=fast")
