"""Recognition and pretraining train on two ranks as on one; see ``alike.py`` for the conditions."""

import json

import pytest
import torch
from launch import finish, start

from rsfoundation.prepare.toy.make import make_toy_scenes

STRATEGIES = ("fsdp", "deepspeed-zero2")
CONFIGS = {
    "recognition": ("quickstart/recognition_toy_lsknet_t", ("recognition", "train")),
    "pretraining": ("quickstart/pretraining_toy_lsknet_t", ("detection", "train", "images")),
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request, tmp_path_factory):
    """A folder with ``alone`` and every strategy trained."""
    folder = tmp_path_factory.mktemp(request.param)
    config, place = CONFIGS[request.param]
    make_toy_scenes(folder / "toy", size=128, counts={"train": 8}, large=0, tasks=[place[0]])
    data = str((folder / "toy").joinpath(*place))
    alone = {"alone": dict(config=config, alike=dict(data_root=data, batch_size=2))}
    finish(start(folder, alone, ranks=1), folder)
    alike = dict(data_root=data, batch_size=1)
    finish(
        start(folder, {name: dict(config=config, alike=alike, strategy=name) for name in STRATEGIES}), folder
    )
    return folder


@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_and_weights_are_those_of_one_process(trained, name):
    alone, ours = (json.loads((trained / f"{run}.json").read_text()) for run in ("alone", name))
    assert len(ours) == 3 and ours == pytest.approx(alone, rel=1e-4)
    wanted, found = (torch.load(trained / f"{run}.pth") for run in ("alone", name))
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        if not key.endswith("running_var"):  # counts the whole batch less one
            torch.testing.assert_close(
                found[key], value, rtol=1e-3, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
            )
