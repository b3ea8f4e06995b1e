"""`rsf info models`, `rsf info model` and `rsf benchmark`."""

import json

import pytest

from rsfoundation.cli import main
from rsfoundation.cli.options import read_size
from rsfoundation.core.errors import ConfigError


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return stop.value.code


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr("rsfoundation.cli.console.console._width", 200)


def test_models_lists_backbones_files_and_weights(capsys):
    assert run("info", "models") == 0
    printed = capsys.readouterr().out
    for text in ("LSKNet", "lwganet_l2", "lsknet_s-in1k", "CC BY-NC 4.0", "e9d2e551...", "by hand", "81.64"):
        assert text in printed


def test_model_prints_and_writes_the_published_figures(capsys, tmp_path):
    file = tmp_path / "figures" / "lsknet_t.json"
    assert run("info", "model", "lsknet_t", "--size", "512", "--json", str(file)) == 0
    printed = capsys.readouterr().out
    assert "3,990,190" in printed and "4.660" in printed and "9.319" in printed
    assert "a multiply-add is two" in printed
    content = json.loads(file.read_text())
    assert content["input_shape"] == [1, 3, 512, 512]
    assert content["total"]["flops"] == 2 * content["total"]["macs"] == 2 * 4_659_582_976
    assert sum(part["params"] for part in content["parts"]) == content["total"]["params"] == 3_990_190


def test_benchmark_prints_and_writes_figures_with_conditions(capsys, tmp_path):
    file = tmp_path / "timed.json"
    words = ("--size", "32x64", "--batch", "2", "--repeats", "2", "--device", "cpu", "--json", str(file))
    assert run("benchmark", "lwganet_l0", *words) == 0
    printed = capsys.readouterr().out
    for text in ("latency p50", "latency p95", "images/s", "peak", "2 x 3 x 32 x 64", "float32", "threads"):
        assert text in printed
    content = json.loads(file.read_text())
    assert content["latency"]["p50_ms"] <= content["latency"]["p95_ms"] and content["versions"]["torch"]


@pytest.mark.parametrize("verb", [("info", "model"), ("benchmark",)])
def test_wrong_names_and_sizes_are_sentences(verb, capsys):
    assert run(*verb, "lsknet_q") == 2
    assert run(*verb, "lsknet_t", "--size", "big") == 2
    printed = capsys.readouterr().err
    assert "neither a config nor a backbone" in printed and "--size 512x768" in printed


@pytest.mark.parametrize(
    ("text", "size"), [("512", (512, 512)), ("96x128", (96, 128)), ("96X128", (96, 128))]
)
def test_sizes_read(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "5", "64x", "64x64x64", "-64", "64.5"])
def test_sizes_refused(text):
    with pytest.raises(ConfigError):
        read_size(text)
