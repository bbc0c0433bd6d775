"""What the tests of reports share."""

import pytest


@pytest.fixture
def unsettled(monkeypatch):
    """Leave out the layout of figures, most of what they cost: what is looked at is what they show."""
    monkeypatch.setattr("fedclip_plugin.report.plots.style._PASSES", 0)
