"""The exported encoder against the plugin's own, in torch."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from benchmarks.random_clip import write_random_clip
from benchmarks.random_duals import KINDS
from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.encoder import ENCODER, ENCODER_DATA, encoder_graph, save_encoder
from fedclip_export.graphs.finalize import to_bytes
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip


@pytest.fixture(scope="module", params=["clip-tiny", "random", "siglip2", "open_clip"])
def exported(request, tmp_path_factory, encoder_of):
    """The folder of a CLIP, and its encoder."""
    if request.param == "clip-tiny":
        folder = locate_backbone("clip-tiny")
    else:
        write = {"random": write_random_clip, **KINDS}[request.param]
        folder = write(tmp_path_factory.mktemp("random"), small=True)
    return folder, encoder_of(folder, {"backbone": request.param})


def pixels(clip, batch):
    side = clip.preprocess(Image.new("RGB", (8, 8))).shape[-1]
    return np.random.default_rng(batch).normal(size=(batch, 3, side, side)).astype(np.float32)


def run(source, batch):
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(["image_features"], {"pixel_values": batch})[0]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_features_are_those_of_the_plugin(exported, batch):
    folder, model = exported
    clip = FrozenClip(folder, torch.device("cpu"))
    given = pixels(clip, batch)
    wanted = clip.encode_pixels(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(run(to_bytes(model), given), wanted, atol=1e-4)
    assert np.abs(wanted).max() > 1  # features as they are, not of unit length


@pytest.mark.parametrize("external", [False, True])
def test_the_files_hold_the_encoder(exported, tmp_path, external):
    folder, model = exported
    files = save_encoder(model, tmp_path, external)
    assert [file.name for file in files] == ([ENCODER, ENCODER_DATA] if external else [ENCODER])
    assert set(tmp_path.iterdir()) == set(files)
    given = pixels(FrozenClip(folder, torch.device("cpu")), 2)
    np.testing.assert_array_equal(run(str(files[0]), given), run(to_bytes(model), given))


def test_writing_twice_gives_the_same_files(exported, tmp_path):
    first = [file.read_bytes() for file in save_encoder(exported[1], tmp_path, True)]
    assert [file.read_bytes() for file in save_encoder(exported[1], tmp_path, True)] == first


def test_saving_leaves_the_model_as_it_is(exported, tmp_path):
    before = to_bytes(exported[1])
    save_encoder(exported[1], tmp_path, True)
    assert to_bytes(exported[1]) == before


def test_nothing_of_the_machine_is_in_the_file(exported):
    content = to_bytes(exported[1])
    for trace in (b"site-packages", b"/lib/python", b"/tmp/", b"fedclip_export/"):
        assert trace not in content


def test_the_metadata_is_in_the_file(exported):
    (entry,) = onnx.load_from_string(to_bytes(exported[1])).metadata_props
    assert entry.key == "backbone"


def test_a_folder_that_is_no_clip_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="cannot be loaded"):
        encoder_graph(tmp_path, {})


def test_a_tower_that_torch_cannot_export_is_refused(monkeypatch):
    def fail(*_given, **_named):
        raise torch.onnx.errors.OnnxExporterError("an operator is missing")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ConversionError, match="an operator is missing"):
        encoder_graph(locate_backbone("clip-tiny"), {})
