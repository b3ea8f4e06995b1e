"""Fixtures of the engine tests: a tiny task that trains in a second."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _plain_configs():
    """Laying out configs for the log costs more than training the tiny task."""
    from forks import leave_configs_plain

    leave_configs_plain()


@pytest.fixture
def tiny_config(tmp_path):
    """A config of the tiny task with its data."""
    from tiny_task import write_config

    return write_config(tmp_path)
