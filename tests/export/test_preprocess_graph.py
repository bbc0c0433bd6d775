"""The preprocessing graph against PIL and transformers, image by image."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop as TorchvisionCrop
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import finalize, require_interface, to_bytes
from fedclip_export.graphs.preprocess import PreprocessSpec, preprocess_graph, read_spec
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.data.decoding.center_crop import CenterCrop

CLIP_TINY = locate_backbone("clip-tiny")
PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "pacs-mini"
OPENAI = PreprocessSpec(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIZES = [
    (64, 64),
    (224, 224),
    (224, 227),
    (227, 224),
    (65, 66),
    (3, 4),
    (4, 3),
    (1, 1),
    (480, 640),
    (301, 517),
    (600, 300),
    (601, 300),
    (700, 64),
    (3000, 231),
    (1080, 1920),
]
THIN = [(1, 900), (900, 1), (5, 4000), (4000, 5)]


@functools.cache
def scene(height, width, seed=0):
    """Something like a photograph: soft gradients, edges, and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    base = np.stack([np.sin(3 * x + seed), np.cos(5 * y), np.sin(7 * x * y)], axis=-1) * 90 + 120
    base[(x - 0.4) ** 2 + (y - 0.4) ** 2 < 0.05] = (230, 40, 25)
    return np.clip(base + rng.normal(0, 8, base.shape), 0, 255).astype(np.uint8)


def noise(height, width):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def checkerboard(height, width):
    return np.repeat((np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


def grey(height, width):
    return np.asarray(Image.fromarray(scene(height, width)).convert("L").convert("RGB"))


@pytest.fixture(scope="module", params=[64, 224])
def pair(request):
    """A session of the graph, and the processor that it replaces."""
    spec = dataclasses.replace(OPENAI, size=request.param)
    session = onnxruntime.InferenceSession(to_bytes(preprocess_graph(spec, {})), providers=["CPUExecutionProvider"])
    side = {"height": spec.size, "width": spec.size}
    return session, CLIPImageProcessorPil(size={"shortest_edge": spec.size}, crop_size=side)


def run(session, image):
    return session.run(None, {"image": image})[0]


def assert_equal(pair, image):
    session, processor = pair
    found = run(session, image)
    wanted = processor(Image.fromarray(image), return_tensors="np")["pixel_values"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("draw", [scene, grey, noise, checkerboard])
def test_pixels_are_those_of_pil_to_the_last_bit(pair, draw, size):
    assert_equal(pair, draw(*size))


@pytest.mark.parametrize("size", THIN, ids="{0[0]}x{0[1]}".format)
def test_thin_images(pair, size):
    assert_equal(pair, noise(*size))


def test_a_camera_frame_of_12_megapixels(pair):
    assert_equal(pair, np.tile(scene(750, 1000), (4, 4, 1)))


def test_real_photographs(pair):
    photos = sorted(PHOTOS.rglob("*.jpg"))[:: max(1, len(sorted(PHOTOS.rglob("*.jpg"))) // 40)]
    if not photos:
        pytest.skip("pacs-mini is not on this machine")
    for photo in photos:
        with Image.open(photo) as image:
            assert_equal(pair, np.asarray(image.convert("RGB")))


def test_random_sizes(pair):
    rng = np.random.default_rng(3)
    for _ in range(25):
        assert_equal(pair, noise(*rng.integers(1, 400, 2)))


@pytest.mark.parametrize("size", [1, 7, 33, 50])
def test_any_size_of_input(size):
    square = {"height": size, "width": size}
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=square)
    graph = preprocess_graph(dataclasses.replace(OPENAI, size=size), {})
    session = onnxruntime.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    for shape in ((90, 140), (140, 60), (3, 5)):
        assert_equal((session, processor), noise(*shape))


@pytest.mark.parametrize("resample", [2, 3], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, 224])
def test_images_that_are_squashed(size, resample):
    spec = dataclasses.replace(OPENAI, size=size, resample=resample, squash=True)
    session = onnxruntime.InferenceSession(to_bytes(preprocess_graph(spec, {})), providers=["CPUExecutionProvider"])
    settings = {"image_mean": OPENAI.mean, "image_std": OPENAI.std, "resample": resample}
    pair = session, SiglipImageProcessorPil(size={"height": size, "width": size}, **settings)
    rng = np.random.default_rng(4)
    for shape in (*SIZES, *THIN, *rng.integers(1, 3 * size, (25, 2)).tolist()):
        assert_equal(pair, noise(*shape))


@pytest.mark.parametrize("resample", [2, 3], ids=["bilinear", "bicubic"])
def test_margins_halved_as_torchvision_halves_them(resample):
    spec = dataclasses.replace(OPENAI, size=64, resample=resample, half_even=True)
    session = onnxruntime.InferenceSession(to_bytes(preprocess_graph(spec, {})), providers=["CPUExecutionProvider"])
    filters = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}
    theirs = Compose([Resize(64, filters[resample]), TorchvisionCrop(64), ToTensor(), Normalize(spec.mean, spec.std)])
    crop = CenterCrop(64, 64, resample, half_even=True)
    for shape in ((64, 65), (64, 67), (67, 64), (69, 64), (100, 140), (301, 300), (30, 70), (5, 400), (400, 5)):
        image = noise(*shape)
        found = run(session, image)
        np.testing.assert_array_equal(found[0], theirs(Image.fromarray(image)).numpy())
        assert crop(Image.fromarray(image)).shape == (64, 64, 3)


def test_a_long_image_needs_little_memory():
    """5,000 times as long as wide: resized whole it would be 1,120,000 x 224 pixels, 3 GB as float32."""
    session = onnxruntime.InferenceSession(to_bytes(preprocess_graph(OPENAI, {})), providers=["CPUExecutionProvider"])
    image = noise(50_000, 10)
    middle = session.run(None, {"image": image})[0]
    from_part = session.run(None, {"image": image[24_000:26_000]})[0]
    np.testing.assert_allclose(middle, from_part, atol=1e-6)


def test_the_graph_agrees_with_the_plugin_for_clip_tiny():
    import torch

    from fedclip_plugin.backbone.clip import FrozenClip

    clip = FrozenClip(CLIP_TINY, torch.device("cpu"))
    graph = preprocess_graph(read_spec(CLIP_TINY), {"part": "preprocess"})
    session = onnxruntime.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    image = scene(150, 100)
    np.testing.assert_array_equal(session.run(None, {"image": image})[0][0], clip.preprocess(Image.fromarray(image)))
    assert session.get_modelmeta().custom_metadata_map == {"part": "preprocess"}


def test_older_pillows_begin_with_the_width():
    spec = PreprocessSpec(64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), height_first=False)
    session = onnxruntime.InferenceSession(to_bytes(preprocess_graph(spec, {})), providers=["CPUExecutionProvider"])
    image = noise(330, 66)
    narrow = Image.fromarray(image).resize((64, 330), Image.Resampling.BICUBIC)
    wanted = np.asarray(narrow.resize((64, 320), Image.Resampling.BICUBIC))[128:192]
    found = np.rint(run(session, image)[0].transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(found, wanted)


def test_clip_tinys_settings_are_read():
    assert read_spec(CLIP_TINY) == PreprocessSpec(64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_the_same_spec_gives_the_same_bytes():
    assert to_bytes(preprocess_graph(OPENAI, {"b": "2", "a": "1"})) == to_bytes(
        preprocess_graph(OPENAI, {"a": "1", "b": "2"})
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resample", 1),
        ("do_center_crop", False),
        ("do_normalize", False),
        ("crop_size", {"height": 48, "width": 48}),
        ("crop_size", {"height": 64, "width": 48}),
        ("size", {"height": 64, "width": 64}),
        ("size", {"shortest_edge": 64, "longest_edge": 128}),
        ("rescale_factor", 1 / 127.5),
        ("image_mean", [0.5]),
        ("image_std", [0.5, 0.0, 0.5]),
        ("do_pad", True),
    ],
)
def test_what_the_graph_does_not_have_is_refused(tmp_path, key, value):
    shutil.copy(CLIP_TINY / "config.json", tmp_path)
    settings = json.loads((CLIP_TINY / "processor_config.json").read_text())
    settings["image_processor"][key] = value
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConversionError, match=key.removeprefix("image_")):
        read_spec(tmp_path)


def test_a_folder_without_a_processor_is_refused(tmp_path):
    shutil.copy(CLIP_TINY / "config.json", tmp_path)
    with pytest.raises(ConversionError, match="no image processor"):
        read_spec(tmp_path)


INTERFACE = (
    {"image": ("uint8", ("height", "width", 3))},
    {"pixel_values": ("float32", (1, 3, 224, 224))},
)


def spoil_version(model):
    model.ir_version = 10


def spoil_opset(model):
    model.opset_import[0].version = 17


def spoil_operator(model):
    model.graph.node[0].domain = "ai.onnx.contrib"


def spoil_name(model):
    model.graph.input[0].name = "picture"


def spoil_type(model):
    model.graph.input[0].type.tensor_type.elem_type = 1


def spoil_shape(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"


@pytest.mark.parametrize(
    "spoil", [spoil_version, spoil_opset, spoil_operator, spoil_name, spoil_type, spoil_shape], ids=lambda f: f.__name__
)
def test_an_interface_that_differs_is_refused(spoil):
    model = preprocess_graph(OPENAI, {})
    require_interface(model, *INTERFACE)
    spoil(model)
    with pytest.raises(ConversionError, match="preprocess"):
        require_interface(model, *INTERFACE)


def test_finalize_leaves_nothing_of_the_machine():
    model = preprocess_graph(OPENAI, {})
    clean = to_bytes(model)
    node = model.graph.node[0]
    node.doc_string = "/home/someone/model.py"
    node.attribute[0].doc_string = "secret"
    node.metadata_props.add(key="trace", value="/home/someone")
    model.graph.value_info.add(name="leftover")
    model.opset_import.add(domain="com.example", version=1)
    model.metadata_props.add(key="old", value="1")
    assert to_bytes(finalize(model, name="preprocess", metadata={})) == clean


def test_a_broken_graph_is_not_written():
    model = preprocess_graph(OPENAI, {})
    model.graph.node[-1].input[0] = "nowhere"
    with pytest.raises(ConversionError, match="checker"):
        to_bytes(model)
