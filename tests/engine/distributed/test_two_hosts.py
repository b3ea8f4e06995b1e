"""Training over two hosts: equal to one, soon ended when a host is lost, and resumed."""

import json
import re
import time

import pytest
import torch
from locations import HELPERS, ROOT
from two_hosts import TwoHosts, permitted

STRATEGIES = ("ddp", "fsdp", "deepspeed-zero1", "deepspeed-zero2", "deepspeed-zero3")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def hosts():
    reason = permitted()
    if reason:
        pytest.skip(reason)
    with TwoHosts() as both:
        yield both


@pytest.fixture
def config(tmp_path):
    from sharded_parts import write_config

    return write_config(tmp_path)


def _said(folder):
    return "\n".join((folder / f"host{host}.log").read_text()[-3000:] for host in range(2))


def test_every_strategy_trains_over_two_hosts(hosts, config):
    folder = config.parent
    scenarios = {name: dict(strategy=name) for name in STRATEGIES}
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    worker = HELPERS / "worker.py"
    both = [hosts.start(host, folder, worker, config) for host in range(2)]
    for process in both:
        assert process.wait(600) == 0, _said(folder)
    weights = {name: torch.load(folder / f"{name}.pth") for name in STRATEGIES}
    for name in STRATEGIES:
        for key, value in weights["ddp"].items():
            torch.testing.assert_close(weights[name][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("strategy", "lose"), [("ddp", "kill"), ("deepspeed-zero2", "kill"), ("deepspeed-zero3", "unplug")]
)
def test_a_lost_host_ends_the_run_and_a_restart_resumes(config, strategy, lose):
    if permitted():
        pytest.skip(permitted())
    folder = config.parent
    words = [ROOT / "tools" / "train.py", config, "--launcher", "pytorch", "--device", "cpu"]
    words += ["--strategy", strategy, "--work-dir", "run", "--cfg-options", "train_cfg.val_interval=1000"]
    with TwoHosts() as hosts:
        both = [hosts.start(host, folder, *words, "train_cfg.max_epochs=1000") for host in range(2)]
        deadline = time.monotonic() + 300
        while not (folder / "run" / "epoch_3.pth").exists():
            assert time.monotonic() < deadline and both[0].poll() is None, _said(folder)
            time.sleep(0.5)
        if lose == "unplug":
            hosts.unplug(1)
        hosts.kill(both[1])
        both[0].wait(60)
        assert both[0].returncode != 0
        said = (folder / "host0.log").read_text()
        assert "--resume" in said and ("lost its connection" in said or "no heartbeat from" in said), said[
            -4000:
        ]
    done = int((folder / "run" / "last_checkpoint").read_text().rpartition("epoch_")[2].split(".")[0])
    with TwoHosts() as hosts:
        end = f"train_cfg.max_epochs={done + 2}"
        both = [hosts.start(host, folder, *words, end, "--resume", "auto") for host in range(2)]
        for process in both:
            assert process.wait(300) == 0, _said(folder)
    resumed = re.search(r"resuming from run/epoch_(\d+)\.pth", (folder / "host0.log").read_text())
    # the host may be lost between a checkpoint's last byte and its name in last_checkpoint: it counts
    assert resumed is not None and int(resumed[1]) in (done, done + 1)
    assert (folder / "run" / f"epoch_{done + 2}.pth").exists()
