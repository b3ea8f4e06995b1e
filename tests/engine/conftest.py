"""Configs of the engine tests are not laid out for the log."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _plain_configs():
    """Laying out configs for the log costs more than training the tiny task."""
    from forks import leave_configs_plain

    leave_configs_plain()
