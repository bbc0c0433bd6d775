"""Adapters of every format that was ever written load and answer as they did then."""

import json
from pathlib import Path

import pytest
import torch

from fedclip_plugin.methods.create import frozen_of, restore_adapter
from fedclip_plugin.runs import load_adapter

FORMATS = sorted(Path(__file__).parent.glob("format_*"))


@pytest.fixture(scope="module", params=FORMATS, ids=lambda path: path.name)
def place(request):
    return request.param


@pytest.fixture(scope="module")
def saved(place):
    return load_adapter(place / "adapter")


def test_every_format_is_kept():
    assert [path.name for path in FORMATS] == ["format_2", "format_2_linear_probe"]


def test_the_header_is_read(saved, place):
    method = "linear_probe" if place.name.endswith("linear_probe") else "fedclip"
    assert (saved.method, saved.feature_dim, saved.round) == (method, 16, 12)
    assert (saved.class_features is None) == (method == "fedclip")
    assert saved.classes == ("dog", "house", "polar_bear")
    assert saved.prompt_template == "a picture of a {}"
    assert saved.metrics == {"target": 0.75}


def test_the_logits_are_the_same(saved, place):
    expected = json.loads((place / "expected.json").read_text())
    with torch.no_grad():
        logits = restore_adapter(saved).logits(torch.tensor(expected["features"]), frozen_of(saved).text)
    torch.testing.assert_close(logits, torch.tensor(expected["logits"]), atol=1e-5, rtol=0)
