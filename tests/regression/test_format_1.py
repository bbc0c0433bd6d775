"""An adapter written by version 0.1.0 loads and answers as it did then."""

import json
from pathlib import Path

import pytest
import torch

from fedclip_plugin.adapters import scores
from fedclip_plugin.adapters.registry import restore_adapter
from fedclip_plugin.runs import load_adapter

HERE = Path(__file__).parent / "format_1"


@pytest.fixture(scope="module")
def saved():
    return load_adapter(HERE / "adapter")


def test_the_header_is_read(saved):
    assert (saved.method, saved.feature_dim, saved.round) == ("fedclip", 16, 12)
    assert saved.classes == ("dog", "house", "polar_bear")
    assert saved.prompt_template == "a picture of a {}"
    assert saved.metrics == {"target": 0.75}


def test_the_logits_are_the_same(saved):
    expected = json.loads((HERE / "expected.json").read_text())
    with torch.no_grad():
        adapted = restore_adapter(saved)(torch.tensor(expected["features"]))
    logits = scores(adapted, torch.tensor(saved.text_features), saved.logit_scale)
    torch.testing.assert_close(logits, torch.tensor(expected["logits"]), atol=1e-5, rtol=0)
