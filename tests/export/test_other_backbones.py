"""Backbones besides CLIP the whole way: trained on in this process, exported, and answering alike on a device."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.random_duals import KINDS
from fedclip_edge.runtime import EdgeClassifier
from fedclip_export.export_bundle import make_bundle
from fedclip_export.parity import FILES_TOLERANCE
from fedclip_export.release import Release
from fedclip_plugin import fit
from fedclip_plugin.errors import MethodError

COLOURS = {"dog": (200, 40, 40), "guitar": (40, 40, 200), "house": (40, 200, 40)}
SILOS = ("north", "south", "east")
EACH = 6


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three silos' noise around a colour a class, of many shapes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for place in (root / silo / name for silo in SILOS for name in COLOURS):
        place.mkdir(parents=True)
        for number in range(EACH):
            shape = (*rng.integers(20, 120, 2), 3)
            levels = rng.normal(COLOURS[place.name], 60, shape).clip(0, 255).astype(np.uint8)
            Image.fromarray(levels).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="module", params=["siglip2", "open_clip", "mobile_clip", "biomed_clip"])
def backbone(request, tmp_path_factory):
    return KINDS[request.param](tmp_path_factory.mktemp("backbone") / request.param, True, 0)


@pytest.fixture
def train(images, backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silos = {name: images / name for name in ("north", "south")}
    keys = {"target": images / "east", "rounds": 1, "backbone": str(backbone), "progress": False}
    return lambda **more: fit(silos, **keys | more)


def test_a_device_answers_as_the_trainer_does(train, images, tmp_path):
    result = train()
    pictures = sorted(images.glob("east/*/*.png"))
    make_bundle(
        result.folder / "adapters" / "best", tmp_path / "bundle", Release("fedclip"), print, calibrate=images / "east"
    )
    classifier = EdgeClassifier(tmp_path / "bundle", allow_unsigned=True)
    answers = [classifier.predict(picture, top=len(COLOURS)) for picture in pictures]
    for picture, answer in zip(pictures, answers, strict=True):
        assert dict(answer.top) == pytest.approx(result.best.predict(picture), abs=FILES_TOLERANCE)
    assert len({tuple(answer.logits) for answer in answers}) == len(pictures)


def test_a_method_that_does_not_fit_is_refused_before_anything_is_encoded(train, tmp_path):
    with pytest.raises(MethodError, match="method 'full' does not work with backbone"):
        train(method="full")
    assert not list(tmp_path.rglob("*.safetensors"))
