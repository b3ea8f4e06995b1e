"""The console: fast help, errors as sentences, mm-style overrides."""

import errno
import os
import subprocess
import sys

import pytest

from rsfoundation.cli import main
from rsfoundation.cli.app import complete_resume, expand_overrides
from rsfoundation.cli.console import report_error
from rsfoundation.core.errors import DataError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["train", "c", "--cfg-options", "a=1", "b=2"],
            ["train", "c", "--cfg-options", "a=1", "--cfg-options", "b=2"],
        ),
        (["train", "--cfg-options", "a=1", "c"], ["train", "--cfg-options", "a=1", "c"]),
        (
            ["train", "--cfg-options", "a=1", "--amp", "x=2"],
            ["train", "--cfg-options", "a=1", "--amp", "x=2"],
        ),
        (["train", "c", "--cfg-options", "a"], ["train", "c", "--cfg-options", "a"]),
        (["train", "c"], ["train", "c"]),
    ],
)
def test_cfg_options_take_several_values(words, expected):
    assert expand_overrides(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "c", "--resume"], ["train", "c", "--resume", "auto"]),
        (["train", "--resume", "c"], ["train", "--resume", "auto", "c"]),
        (["train", "c", "--resume", "x.pth"], ["train", "c", "--resume", "x.pth"]),
        (["train", "c", "--resume", "auto", "--amp"], ["train", "c", "--resume", "auto", "--amp"]),
    ],
)
def test_a_bare_resume_means_auto(words, expected):
    assert complete_resume(words) == expected


@pytest.mark.parametrize("verb", ["demo", "train", "test", "predict", "prepare", "browse", "info", "doctor"])
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0 and "Usage: rsf" in capsys.readouterr().out


def test_known_errors_are_sentences_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "no_such_config"])
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert "no_such_config" in printed and "fix:" in printed and "Traceback" not in printed


def test_unforeseen_errors_say_a_sentence_first(capsys, monkeypatch):
    from rsfoundation.engine import config

    monkeypatch.setattr(config, "find_config", lambda name: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        main(["train", "x"])
    printed = capsys.readouterr().err
    assert stop.value.code == 1
    assert printed.index("unforeseen ZeroDivisionError") < printed.index("Traceback")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EEXIST])
def test_errors_of_the_system_are_sentences_too(capsys, number):
    behind = OSError(number, os.strerror(number), "work_dirs/run/epoch_1.pth")
    error = RuntimeError("PytorchStreamWriter failed")
    error.__cause__ = behind
    assert report_error(error) == 2
    message = capsys.readouterr().err
    assert os.strerror(number).lower() in message and "epoch_1.pth" in message
    assert "fix:" in message and "Traceback" not in message


def test_errors_of_dataloader_workers_lose_their_traceback():
    from rsfoundation.cli.console import _without_worker_trace

    inner = DataError("the image is broken", where="a.png")
    outer = DataError(
        f"Caught DataError in worker 0.\nOriginal Traceback (most recent call last):\n  x\n"
        f"rsfoundation.core.errors.DataError: {inner}\n"
    )
    assert _without_worker_trace(outer) == str(inner)


def test_importing_the_package_or_asking_for_help_loads_nothing_heavy():
    code = (
        "import sys, rsfoundation\n"
        "import rsfoundation.cli\n"
        "heavy = {'torch', 'mmengine', 'numpy', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("words", "left"), [(["--version-of-nothing"], 1), (["--help"], 1), (["doctor"], 0)])
def test_several_ranks_leave_their_group_unless_one_failed(monkeypatch, words, left):
    """Else threads of gloo abort the process at its end now and then."""
    import torch.distributed as dist

    def fail(*args, **kwargs):
        raise DataError("one rank alone has failed")

    calls = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(dist, "destroy_process_group", lambda group=None: calls.append(group))
    if words == ["doctor"]:
        monkeypatch.setattr("rsfoundation.cli.app.app", fail)
    with pytest.raises(SystemExit):
        main(words)
    assert len(calls) == left
