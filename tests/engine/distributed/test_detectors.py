"""Whole detectors train on two ranks as on one, under every strategy; see ``alike.py`` for what is fair."""

import json

import pytest
import torch
from launch import finish, start

from rsfoundation.engine.checkpointing.zero_conversion import convert_zero
from rsfoundation.prepare.toy.make import make_toy_scenes

STRATEGIES = ("ddp", "fsdp", "deepspeed-zero1", "deepspeed-zero2", "deepspeed-zero3")
DETECTORS = {  # config, toy task, overrides
    "oriented_rcnn_lsknet_t": ("quickstart/detection_toy_lsknet_t", "detection", []),
    "sam_seg_rsmamba": ("quickstart/instance_toy_rs4d", "instance", []),
    # all that is frozen in published prompt heads: the encoder, and the estimate of the IoU
    "rsprompter_frozen": ("quickstart/instance_toy_rsprompter", "instance", ["model.backbone_freeze=True"]),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module", params=DETECTORS)
def trained(request, tmp_path_factory):
    """A folder with ``alone`` and every strategy trained."""
    folder = tmp_path_factory.mktemp(request.param)
    config, task, overrides = DETECTORS[request.param]
    make_toy_scenes(folder / "toy", size=128, counts={"train": 1}, large=0, tasks=[task])
    data = str(folder / "toy" / task)
    alone = {"alone": dict(config=config, options=overrides, alike=dict(data_root=data, batch_size=2))}
    finish(start(folder, alone, ranks=1), folder)
    alike = dict(data_root=data, batch_size=1)
    spread = {name: dict(config=config, options=overrides, alike=alike, strategy=name) for name in STRATEGIES}
    finish(start(folder, spread), folder)
    return folder


@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_and_weights_are_those_of_one_process(trained, name):
    alone, ours = (json.loads((trained / f"{run}.json").read_text()) for run in ("alone", name))
    assert len(ours) == 3 and ours == pytest.approx(alone, rel=1e-4)
    wanted, found = (torch.load(trained / f"{run}.pth") for run in ("alone", name))
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        if key.endswith("running_var"):
            continue  # counts the whole batch less one: of two like scenes it differs from that of one
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", STRATEGIES[2:])
def test_checkpoints_convert_exactly(trained, tmp_path, name):
    done = convert_zero(trained / name, tmp_path / "out.pth")
    state = torch.load(done.output, weights_only=True)["state_dict"]
    live = torch.load(trained / f"{name}.pth")
    assert set(state) == set(live) and all(torch.equal(state[key], live[key]) for key in live)
