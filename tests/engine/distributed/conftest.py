"""The trainings that the tests of this folder look at."""

import os
from pathlib import Path

import pytest
import scenarios
from launch import finish, start


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder in which two ranks trained few scenarios and this process trained the whole batch."""
    return _train(tmp_path_factory.mktemp("few"), scenarios.few())


@pytest.fixture(scope="session")
def more_runs(tmp_path_factory):
    """The folder of all scenarios."""
    return _train(tmp_path_factory.mktemp("more"), scenarios.more())


def _train(folder, wanted):
    import worker
    from sharded_parts import write_config

    config = write_config(folder)
    scenarios.write_noisy(folder)
    ranks = start(folder, wanted, config)
    here = Path.cwd()
    os.chdir(folder)
    try:
        for name, scenario in scenarios.alone(wanted).items():
            worker.run(name, scenario, config)
    finally:
        os.chdir(here)
    finish(ranks, folder)
    return folder
