"""What every test needs: no default scope left behind by the test before it."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _fresh_default_scope():
    """Runners set mmengine's default scope for the whole process; forget it after each test."""
    yield
    registry = sys.modules.get("mmengine.registry")
    if registry is not None:
        registry.DefaultScope._instance_dict.clear()
