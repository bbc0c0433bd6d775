"""Trackers are tested where they are installed, which is in an environment of their own: ``make test-track``."""

import importlib.util
import os

import pytest


def require(name):
    """Skip a test where a tracker is missing; with ``FEDCLIP_REQUIRE_TRACKERS=1`` that is a failure."""
    if importlib.util.find_spec(name):
        return
    if os.environ.get("FEDCLIP_REQUIRE_TRACKERS") == "1":
        pytest.fail(f"{name} is not installed, and FEDCLIP_REQUIRE_TRACKERS=1 wants it")
    pytest.skip(f"{name} is not installed here: make test-track")
