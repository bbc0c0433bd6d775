"""What the tests of exports share: an encoder is traced once for as many bundles as are made of it."""

import functools

import onnx
import pytest

from fedclip_export import export_bundle
from fedclip_export.graphs.encoder import encoder_graph


@pytest.fixture(scope="session", autouse=True)
def one_trace_an_encoder():
    """Let ``export_bundle`` trace one encoder once; the tests of the encoder's graph call it themselves."""

    @functools.cache
    def traced(weights, folder, metadata):
        return encoder_graph(folder, dict(metadata)).SerializeToString()

    def graph(folder, metadata):
        weights = (folder / "model.safetensors").stat()
        known = traced((weights.st_ino, weights.st_mtime_ns), folder, tuple(sorted(metadata.items())))
        return onnx.load_model_from_string(known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_bundle, "encoder_graph", graph)
        yield
