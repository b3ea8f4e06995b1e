"""What every test needs: no default scope left behind by the test before it, no limits on time."""

import sys

import pytest
from hypothesis import settings

# A busy machine is no fault of the code; a hung test still ends by pytest-timeout.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _fresh_default_scope():
    """Runners set mmengine's default scope for the whole process; forget it after each test."""
    yield
    registry = sys.modules.get("mmengine.registry")
    if registry is not None:
        registry.DefaultScope._instance_dict.clear()
