"""Tiny bundles made in milliseconds: graphs, manifests, full bundles and updates."""

import base64
import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedclip_edge.bundle import keys

SIZE, WIDTH, LABELS = 8, 4, ("dog", "cat", "horse")
NOW, RUNTIME, PRODUCT = 1_763_645_000, "1.26.0", "fedclip"
IMAGE_SHAPES = ((16, 8, 3), (8, 24, 3))


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def base64_of(array, kind="<f4"):
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


# ---------------------------------------------------------------- graphs


def model(nodes, inputs, outputs, weights, opsets=(("", 18),)):
    """Return the bytes of a graph; ``inputs`` and ``outputs`` are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "forged",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=8)
    return made.SerializeToString(deterministic=True)


@functools.cache
def preprocess(scale=1 / 255):
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["planes", "first"], ["batch"]),
        helper.make_node(
            "Resize",
            ["batch", "", "", "sizes"],
            ["small"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Mul", ["small", "scale"], ["pixel_values"]),
    ]
    weights = {"first": np.int64([0]), "sizes": np.int64([1, 3, SIZE, SIZE]), "scale": np.float32(scale)}
    return model(
        nodes,
        [("image", TensorProto.UINT8, ["height", "width", 3])],
        [("pixel_values", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        weights,
    )


def encoder_weights(seed=0):
    return np.random.default_rng(seed).normal(size=(WIDTH, 3)).astype(np.float32)


@functools.cache
def encoder(seed=0):
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "projection"], ["image_features"], transB=1),
    ]
    return model(
        nodes,
        [("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [("image_features", TensorProto.FLOAT, ["batch", WIDTH])],
        {"projection": encoder_weights(seed)},
    )


@functools.cache
def encoder_outside(seed=0, location="encoder.onnx.data"):
    """Return (graph, data): the same encoder with its weights in a file of their own."""
    made = onnx.load_from_string(encoder(seed))
    tensor = made.graph.initializer[0]
    data = tensor.raw_data
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return made.SerializeToString(deterministic=True), data


def head_weights(seed, width=WIDTH):
    return np.random.default_rng([7, seed]).normal(size=(len(LABELS), width)).astype(np.float32)


def head_graph(weights, logits="logits", domain="", opsets=(("", 18),)):
    labels, width = weights.shape
    nodes = [
        helper.make_node("Gemm", ["image_features", "text"], [logits], transB=1, domain=domain),
        helper.make_node("Softmax", [logits], ["probabilities"], axis=-1),
    ]
    outputs = [(name, TensorProto.FLOAT, ["batch", labels]) for name in (logits, "probabilities")]
    inputs = [("image_features", TensorProto.FLOAT, ["batch", width])]
    return model(nodes, inputs, outputs, {"text": weights}, opsets)


@functools.cache
def head(seed=1):
    return head_graph(head_weights(seed))


# ---------------------------------------------------------------- bundles


def images():
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, shape, dtype=np.uint8) for shape in IMAGE_SHAPES]


def features(pictures, seed=0):
    """Return what ``preprocess`` and ``encoder`` answer, computed without onnxruntime."""
    rows = []
    for picture in pictures:
        small = picture[:: picture.shape[0] // SIZE, :: picture.shape[1] // SIZE].astype(np.float32) / 255
        rows.append(encoder_weights(seed) @ small.mean((0, 1)))
    return np.stack(rows).astype(np.float32)


def manifest(files, installed=(), round=1, sequence=100, head_seed=None, **changes):
    """Return the manifest of these files (name to (role, content)) as a plain dictionary."""
    seen = features(images())
    logits = seen @ head_weights(round if head_seed is None else head_seed).T
    pictures = [{"height": i.shape[0], "width": i.shape[1], "rgb": base64_of(i, "u1")} for i in images()]
    entries = {
        name: {"role": role, "size": len(content), "sha256": sha256(content), "installed": role in installed}
        for name, (role, content) in files.items()
    }
    return {
        "schema": 1,
        "product": PRODUCT,
        "sequence": sequence,
        "not_before": None,
        "expires": None,
        "labels": list(LABELS),
        "prompt_template": "a photo of a {}",
        "method": "fedclip",
        "round": round,
        "adapter": {"sha256": sha256(b"adapter"), "recipe_digest": "forged"},
        "backbone": {"name": "tiny", "fingerprint": sha256(b"backbone")},
        "feature_dim": WIDTH,
        "image_size": SIZE,
        "precision": "fp32",
        "files": entries,
        "onnxruntime": {"lowest": "1.16", "tested": [RUNTIME]},
        "versions": {"onnx": onnx.__version__},
        "golden": {
            "features": base64_of(seen),
            "logits": base64_of(logits),
            "images": [] if installed else pictures,
        },
        "parity": {"fp32": {"max_dlogit": "1e-06"}},
    } | changes


def confidences(round):
    """Return the labels and the largest probabilities that a round gives to ``images()``."""
    logits = features(images()) @ head_weights(round).T
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return [LABELS[at] for at in shares.argmax(1)], shares.max(1)


PRIVACY = {"epsilon": 7.25, "delta": 1e-05}
"""What a manifest says of the training images' privacy."""


def calibration(round):
    """Return a calibration by which the less confident of the two answers for ``images()`` is ``unknown``."""
    threshold = round_to_four(confidences(round)[1].mean())
    return {"temperature": 1.25, "threshold": threshold, "false_reject_rate": 0.05, "images": 336}


def answers(round):
    """Return what every host says of ``images()`` by a round with ``calibration()``."""
    threshold = calibration(round)["threshold"]
    return [
        {"label": label if share >= threshold else "unknown", "guess": label, "known": bool(share >= threshold)}
        for label, share in zip(*confidences(round), strict=True)
    ]


def round_to_four(number):
    return float(f"{number:.4f}")


def write(folder, files, described, key=None):
    """Write files (name to content) and a manifest (a dictionary, or bytes as they are), signed when a key is given."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    put_manifest(folder, described, key)
    return folder


def put_manifest(folder, described, key=None):
    raw = described if isinstance(described, bytes) else canonical(described)
    (folder / "manifest.json").write_bytes(raw)
    if key is not None:
        (folder / "manifest.sig").write_bytes(keys.sign(raw, key))


def read(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def bundle(folder, round=1, sequence=100, key=None, external=False, encoder_seed=0, **changes):
    """Write a full bundle; ``changes`` replace fields of its manifest.

    ``external`` puts the encoder's weights into ``encoder.onnx.data``.
    """
    files = {"head.onnx": ("head", head(round)), "preprocess.onnx": ("preprocess", preprocess())}
    if external:
        graph, data = encoder_outside(encoder_seed)
        files |= {"encoder.onnx": ("encoder", graph), "encoder.onnx.data": ("encoder-data", data)}
    else:
        files["encoder.onnx"] = ("encoder", encoder(encoder_seed))
    described = manifest(files, (), round, sequence, **changes)
    if encoder_seed:
        seen = features(images(), encoder_seed)
        logits = base64_of(seen @ head_weights(round).T)
        described["golden"] |= {"features": base64_of(seen), "logits": logits}
    return write(folder, {name: content for name, (_, content) in files.items()}, described, key)


def update(folder, round=2, sequence=200, key=None, external=False, **changes):
    """Write an update for a device that has ``bundle()`` (with the same ``external``)."""
    files = {"head.onnx": ("head", head(round)), "preprocess.onnx": ("preprocess", preprocess())}
    if external:
        graph, data = encoder_outside()
        files |= {"encoder.onnx": ("encoder", graph), "encoder.onnx.data": ("encoder-data", data)}
    else:
        files["encoder.onnx"] = ("encoder", encoder())
    described = manifest(files, ("encoder", "encoder-data", "preprocess"), round, sequence, **changes)
    return write(folder, {"head.onnx": head(round)}, described, key)
