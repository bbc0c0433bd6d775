"""A real bundle of the built-in backbone with its update, and onnxruntime's answers in Python."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fedclip_edge.calibration import Calibration
from tests.devices.support import hosts
from tests.support.paths import ROOT

PHOTOS = ROOT.parent / "shared" / "data" / "pacs-mini"


THRESHOLD = 0.55
"""By which some of the pictures are ``unknown``, and some are not."""


@dataclass(frozen=True)
class Delivery:
    """A signed bundle, the update that follows it, and the public key."""

    bundle: Path
    update: Path
    public: Path


@pytest.fixture(scope="session")
def node():
    return hosts.require_node()


@pytest.fixture(scope="session")
def chromium():
    hosts.require_chromium()
    return hosts.chromium()


@pytest.fixture(scope="session")
def delivery(tmp_path_factory):
    from fedclip_edge.bundle import keys
    from fedclip_export.export_bundle import make_bundle
    from fedclip_export.export_update import make_update
    from fedclip_export.release import Release
    from tests.support.random_adapters import write_adapter

    place = tmp_path_factory.mktemp("delivery")
    keys.generate(place / "key")
    release = Release("fedclip", sequence=1_763_645_000, private_key=place / "key")
    calibration = Calibration(temperature=2.0, threshold=THRESHOLD, false_reject_rate=0.05, images=336)
    first = write_adapter(place / "one", round=11, seed=0, calibration=calibration)
    make_bundle(first, place / "bundle", release, print)
    later = Release("fedclip", sequence=1_763_645_100, private_key=place / "key")
    make_update(write_adapter(place / "two", round=20, seed=1), place / "bundle", place / "update", "fp32", later)
    return Delivery(place / "bundle", place / "update", place / "key.pub")


@pytest.fixture(scope="session")
def python(delivery):
    """Return a function from a uint8 [H, W, 3] array to the logits [C] that Python's onnxruntime gives."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(delivery.bundle / name, settings, providers=["CPUExecutionProvider"])
        for name in ("preprocess.onnx", "encoder.onnx", "head.onnx")
    ]

    def logits(image):
        value = np.ascontiguousarray(image)
        for session in sessions:
            value = session.run(None, {session.get_inputs()[0].name: value})[0]
        return value[0]

    return logits


@pytest.fixture(scope="session")
def said(delivery):
    """Return a function from files to what Python says of them, both known and ``unknown``."""
    from fedclip_edge.runtime import EdgeClassifier

    def answers(paths):
        with EdgeClassifier(delivery.bundle, keys=[delivery.public], provider="cpu") as classifier:
            found = classifier.predict([*classifier.manifest.golden.images, *paths])
        told = [{"label": one.label, "guess": one.guess, "known": one.known} for one in found]
        assert {one["known"] for one in told} == {True, False}
        return told

    return answers


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Return lossless pictures in every colour mode."""
    from tests.devices.support.pictures import write_pictures

    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return JPEG files: real ones where they are at hand, else pictures of the miniature."""
    from tests.devices.support.pictures import write_photos

    found = sorted(PHOTOS.glob("*/*/*.jpg"))
    return found or write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def site(chromium, delivery, pictures, photos, tmp_path_factory):
    """Return the built page, with the pictures copied beside it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    hosts.build_site(folder, delivery.bundle, delivery.update, [delivery.public])
    (folder / "images").mkdir()
    for path in (*pictures, *photos):
        shutil.copyfile(path, folder / hosts.address(path))
    return folder


@pytest.fixture(scope="session")
def browse(chromium, site):
    """Return a function that asks Chromium about the built page."""

    def ask(action, **job):
        settings = {"site": str(site), "plain": False, "chromium": chromium, "artefacts": str(hosts.ARTEFACTS)}
        return hosts.ask("chromium_host.mjs", settings | job | {"action": action})

    return ask


@pytest.fixture(scope="session")
def signer_scene():
    from tests.support import forge

    return forge
