"""Encoders in other precisions against the float32 one, on real renderings."""

import functools
import hashlib
import logging
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.random_clip import write_random_clip
from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import require_interface, to_bytes
from fedclip_export.graphs.quantize import LOWEST_RUNTIME, quantize
from fedclip_export.parity import centred_cosine
from fedclip_miniature import ensure_miniature
from fedclip_plugin.backbone import locate_backbone
from tests.support.workshop import IMAGES_PER_CLASS

CLOSEST = {"fp16": 0.99999, "int8": 0.995, "int8-weights": 0.999}
SMALLEST = {"fp16": 0.52, "int8": 0.38, "int8-weights": 0.38}
PROGRAM = """
import hashlib, sys
from pathlib import Path
import numpy as np
from fedclip_export.graphs.encoder import encoder_graph
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.quantize import quantize
encoder, pixels = encoder_graph(Path(sys.argv[1]), {"backbone": "clip-tiny"}), np.load(sys.argv[2])
for model in (encoder, *(quantize(encoder, precision, pixels) for precision in ("fp16", "int8", "int8-weights"))):
    print(hashlib.sha256(to_bytes(model)).hexdigest())
"""


@pytest.fixture(scope="module")
def encoder(encoder_of):
    return encoder_of(locate_backbone("clip-tiny"), {"backbone": "clip-tiny"})


@pytest.fixture(scope="module")
def odd_encoder(tmp_path_factory, encoder_of):
    """An encoder whose widths, 16 to 64, are less than a block of weights."""
    return encoder_of(write_random_clip(tmp_path_factory.mktemp("random"), small=True), {})


@pytest.fixture(scope="module")
def renderings(workshop):
    """Preprocessed images of the miniature: some to calibrate with, others to compare on."""
    root = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)
    processor = CLIPImageProcessorPil.from_pretrained(locate_backbone("clip-tiny"))
    images = [Image.open(path).convert("RGB") for path in sorted(root.rglob("*.png"))[::3]]
    pixels = processor(images, return_tensors="np")["pixel_values"]
    return pixels[::2][:40], pixels[1::2]


@pytest.fixture(scope="module")
def converted(encoder, renderings):
    """Return a function that converts the encoder to a precision, once."""
    return functools.cache(lambda precision: quantize(encoder, precision, renderings[0]))


def run(model, pixels):
    session = onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    return session.run(["image_features"], {"pixel_values": pixels})[0]


def test_every_precision_has_a_lowest_runtime():
    assert set(LOWEST_RUNTIME) == {"fp32", *CLOSEST}


@pytest.mark.parametrize("precision", CLOSEST)
def test_features_agree_and_the_file_shrinks(encoder, converted, renderings, precision):
    others, smaller = renderings[1], converted(precision)
    assert centred_cosine(run(encoder, others), run(smaller, others)) >= CLOSEST[precision] - 1e-9
    assert len(to_bytes(smaller)) <= SMALLEST[precision] * len(to_bytes(encoder))


@pytest.mark.parametrize("precision", CLOSEST)
def test_inputs_outputs_and_metadata_stay(encoder, converted, renderings, precision):
    smaller = converted(precision)
    require_interface(
        smaller,
        {"pixel_values": ("float32", ("batch", 3, 64, 64))},
        {"image_features": ("float32", ("batch", 128))},
    )
    before, after = ({entry.key: entry.value for entry in graph.metadata_props} for graph in (encoder, smaller))
    assert after == before | {"precision": precision}
    assert run(smaller, renderings[1][:5]).shape == (5, 128)


@pytest.mark.parametrize("precision", CLOSEST)
def test_an_image_has_the_same_features_in_any_batch(converted, renderings, precision):
    smaller = converted(precision)
    together = run(smaller, renderings[1][:8])
    alone = np.concatenate([run(smaller, image[None]) for image in renderings[1][:8]])
    np.testing.assert_allclose(together, alone, atol=1e-2 if precision == "fp16" else 1e-4)


@pytest.mark.parametrize("precision", CLOSEST)
def test_one_image_is_enough_to_calibrate_and_odd_widths_convert(odd_encoder, precision):
    smaller = quantize(odd_encoder, precision, np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32))
    features = run(smaller, np.random.default_rng(1).normal(size=(4, 3, 32, 32)).astype(np.float32))
    assert features.shape == (4, 16)
    assert np.isfinite(features).all()


def test_attention_products_stay_in_float(converted):
    graph = converted("int8").graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    from_weights = {
        node.input[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights
    }
    assert from_weights
    attention = [node for node in products if made_by[node.input[1]] != "DequantizeLinear"]
    assert len(attention) == 2 * 4  # two in each of the four layers


def test_bytes_are_the_same_in_any_folder_and_process_and_making_them_is_silent(
    encoder, converted, renderings, tmp_path
):
    copy = shutil.copytree(locate_backbone("clip-tiny"), tmp_path / "elsewhere" / "deep" / "clip")
    np.save(tmp_path / "pixels.npy", renderings[0])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(copy), str(tmp_path / "pixels.npy")],
        cwd=copy.parent,
        env={"PYTHONHASHSEED": "2", "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    here = [hashlib.sha256(to_bytes(model)).hexdigest() for model in (encoder, *map(converted, CLOSEST))]
    assert (done.stdout.splitlines(), done.stderr) == (here, "")
    assert len(set(here)) == 4


def test_conversion_is_silent_and_leaves_the_encoder_and_logging_alone(encoder, renderings, capfd):
    def surroundings():
        return to_bytes(encoder), logging.getLogger().handlers[:], logging.getLogger().level

    before = surroundings()
    for precision in CLOSEST:
        quantize(encoder, precision, renderings[0][:1])
    assert capfd.readouterr() == ("", "")
    assert surroundings() == before


def test_an_unknown_precision_is_refused(encoder, renderings):
    with pytest.raises(ConversionError, match="int8-weights"):
        quantize(encoder, "int4", renderings[0])


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((0, 3, 64, 64), np.float32),
        np.zeros((2, 3, 32, 32), np.float32),
        np.zeros((2, 3, 64, 64), np.float64),
    ],
    ids=["none", "size", "type"],
)
def test_images_that_do_not_fit_are_refused(encoder, pixels):
    with pytest.raises(ConversionError, match="calibration images"):
        quantize(encoder, "int8", pixels)


def test_centred_cosine():
    features = np.random.default_rng(0).normal(size=(50, 16)) + 10
    assert centred_cosine(features, features) == pytest.approx(1)
    unrelated = np.random.default_rng(1).normal(size=(50, 16)) + 10
    assert abs(centred_cosine(features, unrelated)) < 0.2
    assert centred_cosine(np.ones((2, 4)), np.ones((2, 4))) == 0
    with pytest.raises(ValueError, match="at least 2"):
        centred_cosine(features[:1], features[:1])
    with pytest.raises(ValueError, match="same N"):
        centred_cosine(features, features[:9])


def test_the_model_is_an_onnx_model_of_ir_8(converted):
    for precision in CLOSEST:
        assert onnx.load_from_string(to_bytes(converted(precision))).ir_version == 8
