"""Bundles of methods that change the image encoder: an encoder of their own, which no other head ever meets."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from fedclip_edge.bundle import Trust, open_bundle
from fedclip_edge.errors import BundleError
from fedclip_edge.runtime import EdgeClassifier, install
from fedclip_export import check_images
from fedclip_export.cli import main
from fedclip_export.graphs.tuned_encoder import write_tuned
from fedclip_export.source import read_source
from fedclip_miniature import CLASSES, ensure_miniature
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.onnx_encoder import FINGERPRINT_KEY
from fedclip_plugin.cli.main import main as fedclip
from fedclip_plugin.methods import METHODS
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.runs import load_adapter, save_adapter
from tests.support.random_adapters import fresh_adapter, write_adapter
from tests.support.workshop import IMAGES_PER_CLASS


def trained(folder, method, round=3, seed=0):
    """Write an adapter of clip-tiny whose every tensor has moved, and return its folder."""
    fresh = fresh_adapter(round, method=method)
    rng = np.random.default_rng(seed)
    moved = {
        name: tensor + rng.normal(scale=0.01, size=tensor.shape).astype(tensor.dtype)
        for name, tensor in fresh.tensors.items()
    }
    classes = None
    if method == "full":
        classes = fresh.text_features + rng.normal(scale=0.01, size=fresh.text_features.shape)
        classes = (classes / np.linalg.norm(classes, axis=1, keepdims=True)).astype(np.float32)
    save_adapter(folder, dataclasses.replace(fresh, tensors=moved, class_features=classes))
    return folder


@pytest.fixture(scope="module", params=[name for name, entry in METHODS.items() if entry.on_pixels])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def images(workshop):
    """Return images to compare with PyTorch on, a third of what an export takes by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_images, "CHECK", 40)
        yield ensure_miniature(workshop.data, IMAGES_PER_CLASS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, images):
    """A folder with two rounds of FedCLIP, the first one's bundle and the second one's update."""
    folder = tmp_path_factory.mktemp("plain")
    for round in (3, 4):
        write_adapter(folder / f"round_{round}", round=round, seed=round)
    bundle(folder, images)
    assert update(folder / "round_4", folder / "bundle", folder / "update") == 0
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, images, method):
    """A folder with two rounds of a method and the first one's bundle."""
    folder = tmp_path_factory.mktemp(method)
    for round in (3, 4):
        trained(folder / f"round_{round}", method, round, seed=round)
    bundle(folder, images)
    return folder


def bundle(folder, images):
    words = ["--adapter", str(folder / "round_3"), "--out", str(folder / "bundle"), "--calibrate", str(images)]
    assert main(["bundle", *words, "--sequence", "100"]) == 0


def update(adapter, against, out):
    words = ["--adapter", str(adapter), "--against", str(against), "--out", str(out)]
    return main(["update", *words, "--sequence", "200"])


def manifest(folder):
    return open_bundle(folder, Trust(allow_unsigned=True)).manifest


def test_a_device_answers_as_the_trainer_does(place, plain, images, capsys, tmp_path):
    photo = tmp_path / "photo.png"
    Image.open(next(images.glob("photo/dog/*.png"))).resize((300, 190)).save(photo)
    assert fedclip(["predict", str(place / "round_3"), str(photo), "--top", str(len(CLASSES))]) == 0
    told = capsys.readouterr().out.split()[1:]
    answers = dict(EdgeClassifier(place / "bundle", allow_unsigned=True).predict(photo, top=len(CLASSES)).top)
    assert answers == pytest.approx(dict(zip(told[::2], map(float, told[1::2]), strict=True)), abs=1e-3)
    assert answers != pytest.approx(
        dict(EdgeClassifier(plain / "bundle", allow_unsigned=True).predict(photo, top=7).top), abs=1e-2
    )


def test_the_bundle_names_the_method_and_an_encoder_of_its_own(place, plain, method):
    tuned, other = manifest(place / "bundle"), manifest(plain / "bundle")
    assert (tuned.method, tuned.round) == (method, 3)
    assert tuned.backbone["name"] == other.backbone["name"]
    assert tuned.backbone["fingerprint"] != other.backbone["fingerprint"]
    for name in ("preprocess.onnx", "encoder.onnx", "head.onnx"):
        assert tuned.files[name].sha256 != other.files[name].sha256
        model = onnx.load(place / "bundle" / name)
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert told[FINGERPRINT_KEY] == tuned.backbone["fingerprint"]


def test_the_fingerprint_is_that_of_the_round(place, tmp_path):
    clip = locate_backbone("clip-tiny")
    again, later = (
        write_tuned(read_source(place / adapter), clip, tmp_path / adapter).saved for adapter in ("round_3", "round_4")
    )
    assert again.fingerprint == manifest(place / "bundle").backbone["fingerprint"] != later.fingerprint


def test_no_head_is_made_for_another_encoder(place, plain, tmp_path, capsys):
    for adapter, against, reason in (
        (place / "round_4", place / "bundle", "full bundle"),
        (place / "round_4", plain / "bundle", "full bundle"),
        (plain / "round_4", place / "bundle", "its features mean something else"),
    ):
        assert update(adapter, against, tmp_path / "never") == 2
        assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_device_refuses_a_head_for_another_encoder(place, plain, tmp_path):
    install(tmp_path / "device", place / "bundle", allow_unsigned=True, provider="cpu")
    with EdgeClassifier(tmp_path / "device", allow_unsigned=True, provider="cpu") as classifier:
        with pytest.raises(BundleError) as refused:
            classifier.update(plain / "update")
        assert refused.value.reason == "other-encoder"
        assert classifier.round == 3


def test_the_tuned_weights_are_those_of_the_adapter(method, place):
    clip = FrozenClip(locate_backbone("clip-tiny"), torch.device("cpu"))
    adapter = restore_adapter(load_adapter(place / "round_3"))
    levels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = clip.encode_pixels(clip.preprocessing.normalization()(levels))
    fault = clip.model.load_state_dict(adapter.image_weights(), strict=False)
    assert fault.unexpected_keys == []
    assert all(name.startswith(("text_", "logit_scale")) for name in fault.missing_keys)
    after = clip.encode_pixels(clip.preprocessing.normalization()(levels))
    with torch.no_grad():
        torch.testing.assert_close(torch.nn.functional.normalize(after, dim=-1), adapter(levels), atol=1e-5, rtol=0)
    assert (before - after).abs().max() > 1e-2
