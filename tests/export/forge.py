"""Tiny bundles made in milliseconds, and every way in which somebody might tamper with one.

The scene of every attack: a device has ``bundle()`` (round 1, sequence 100) installed and holds one public key. The
victim is a full bundle or an update of round 2, sequence 200, signed with that key, which the attack changes. It is
opened at the moment ``NOW`` with onnxruntime ``RUNTIME``.
"""

import base64
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedclip_export.bundle import keys

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


# ---------------------------------------------------------------- attacks


@dataclass(frozen=True)
class Attack:
    """One way to tamper.

    ``reason`` is the refusal it must meet. ``victim`` is ``bundle`` or ``update``. ``filesystem``: it needs a file
    system (links, unlisted files), so it cannot be played to a browser. ``judge``: ``opening``, or ``runtime`` for
    what only the self-test notices.
    """

    apply: Callable
    reason: str
    victim: str = "update"
    filesystem: bool = False
    judge: str = "opening"


def attacked(folder, name, key):
    """Write the victim of this attack at ``folder``, signed with ``key``, tamper with it, and return the folder."""
    attack = ATTACKS[name]
    {"bundle": bundle, "update": update}[attack.victim](folder, round=2, sequence=200, key=key)
    attack.apply(Path(folder), Path(key))
    return Path(folder)


def read(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def resigned(change):
    """Return an attack by somebody who holds the key: the manifest is changed by ``change`` and signed again."""

    def apply(folder, key):
        described = read(folder)
        change(described)
        put_manifest(folder, described, key)

    return apply


def setting(path, value):
    """Return ``resigned`` for one field, its path written ``files/head.onnx/size``."""

    def change(described):
        *parents, last = path.split("/")
        for parent in parents:
            described = described[parent]
        described[last] = value

    return resigned(change)


def respelled(spell):
    """Return an attack that signs other bytes, ``spell(manifest as a dictionary)``, as the manifest."""
    return lambda folder, key: put_manifest(folder, spell(read(folder)), key)


def replaced(name, make):
    """Return an attack by somebody who holds the key: another file under this name, listed properly and signed."""

    def apply(folder, key):
        content = make()
        (folder / name).write_bytes(content)
        described = read(folder)
        described["files"][name] |= {"size": len(content), "sha256": sha256(content)}
        put_manifest(folder, described, key)

    return apply


def overwrite(path, content):
    """Put other content under a name, also where a device has made the file read-only."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def flipped(name):
    def apply(folder, key):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        overwrite(folder / name, bytes(content))

    return apply


def cut(name):
    def apply(folder, key):
        content = (folder / name).read_bytes()
        overwrite(folder / name, content[: len(content) // 2])

    return apply


def written(name, content):
    return lambda folder, key: overwrite(folder / name, content)


def appended(name, content):
    return lambda folder, key: overwrite(folder / name, (folder / name).read_bytes() + content)


def linked(name):
    """Return an attack that moves a file away and leaves a symbolic link to it."""

    def apply(folder, key):
        away = folder.with_name(folder.name + "-away")
        shutil.move(folder / name, away)
        (folder / name).symlink_to(away)

    return apply


def instead(name, make):
    def apply(folder, key):
        (folder / name).unlink()
        make(folder / name)

    return apply


def signed_by_mallory(folder, key):
    mallory = folder.with_name(folder.name + "-mallory")
    keys.generate(mallory)
    put_manifest(folder, read(folder), mallory)


def mixed(names):
    """Return an attack that takes these files from another bundle, signed with the same key."""

    def apply(folder, key):
        other = bundle(folder.with_name(folder.name + "-other"), round=3, sequence=300, key=key, encoder_seed=5)
        for name in names:
            shutil.copyfile(other / name, folder / name)

    return apply


def drop(name):
    return resigned(lambda described: described.pop(name))


def renamed_encoder(name):
    return resigned(lambda described: described["files"].__setitem__(name, described["files"].pop("encoder.onnx")))


def fewer_labels(described):
    described["labels"] = described["labels"][:2]
    seen = features(images())
    described["golden"]["logits"] = base64_of(seen @ head_weights(2)[:2].T)


def other_width(described):
    described["feature_dim"] = 2 * WIDTH
    described["golden"]["features"] = base64_of(np.zeros((2, 2 * WIDTH)))


def head_with_external_data():
    made = onnx.load_from_string(head(2))
    onnx.external_data_helper.set_external_data(made.graph.initializer[0], "../secret")
    made.graph.initializer[0].ClearField("raw_data")
    return made.SerializeToString(deterministic=True)


def head_with_hidden_external_data():
    """Return a head with external data where few look: in a constant inside a branch of an If."""
    made = onnx.load_from_string(head(2))
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])],
    )
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    made.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))
    return made.SerializeToString(deterministic=True)


def head_with_function():
    made = onnx.load_from_string(head(2))
    node = helper.make_node("Identity", ["x"], ["y"])
    made.functions.append(helper.make_function("", "Gemm", ["x"], ["y"], [node], [helper.make_opsetid("", 18)]))
    return made.SerializeToString(deterministic=True)


def encoder_with(operator):
    """Return an encoder that uses one of onnxruntime's own operators, to no end."""
    made = onnx.load_from_string(encoder())
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made.graph.node.append(helper.make_node(operator, ["projection", "projection"], ["unused"], domain="com.microsoft"))
    return made.SerializeToString(deterministic=True)


def int8_in_another_order(described):
    """Swap features whose cosine is 0.9999: only what is left without their mean tells them apart."""
    seen = features(images())[::-1]
    described["precision"] = "int8"
    described["golden"] |= {"features": base64_of(seen), "logits": base64_of(seen @ head_weights(2).T)}


def head_with_nan():
    weights = head_weights(2)
    weights[1, 1] = np.nan
    return head_graph(weights)


def twice_a_key(described):
    return canonical(described).replace(b'"round":2', b'"round":2,"round":2')


def deep(described):
    return canonical(described).replace(
        b'"parity":{', b'"parity":{"a":' + b'{"a":' * 20000 + b'"b"' + b"}" * 20000 + b",", 1
    )


def golden_of(**arrays):
    return resigned(lambda described: described["golden"].update({k: base64_of(v) for k, v in arrays.items()}))


def _attacks():
    table = {}
    for name in ("head.onnx", "encoder.onnx", "preprocess.onnx"):
        table[f"bit flip in {name}"] = Attack(flipped(name), "hash", "bundle")
        table[f"truncated {name}"] = Attack(cut(name), "size", "bundle")
        table[f"missing {name}"] = Attack(lambda f, k, name=name: (f / name).unlink(), "missing-file", "bundle")
    for name in ("manifest.json", "manifest.sig"):
        table[f"bit flip in {name}"] = Attack(flipped(name), "signature")
        table[f"truncated {name}"] = Attack(cut(name), "signature")
    table |= {
        "bytes after the head": Attack(appended("head.onnx", b"\0"), "size"),
        "missing manifest": Attack(lambda f, k: (f / "manifest.json").unlink(), "missing-file"),
        "huge manifest": Attack(written("manifest.json", b" " * (2 << 20)), "too-large"),
        "empty signature": Attack(written("manifest.sig", b""), "signature"),
        "long signature": Attack(appended("manifest.sig", b"\0"), "signature"),
        "unsigned": Attack(lambda f, k: (f / "manifest.sig").unlink(), "unsigned"),
        "signed with an unknown key": Attack(signed_by_mallory, "signature"),
        "not JSON": Attack(respelled(lambda d: b"{" + canonical(d)), "not-json"),
        "not UTF-8": Attack(respelled(lambda d: canonical(d).replace(b"forged", b"\xff\xfe")), "not-json"),
        "deep JSON": Attack(respelled(deep), "not-json"),
        "duplicate JSON key": Attack(respelled(twice_a_key), "duplicate-key"),
        "indented": Attack(respelled(lambda d: json.dumps(d, sort_keys=True, indent=1).encode()), "not-canonical"),
        "newline at the end": Attack(respelled(lambda d: canonical(d) + b"\n"), "not-canonical"),
        "a real number": Attack(setting("parity/fp32/max_dlogit", 0.5), "not-canonical"),
        "an integer beyond 2**53": Attack(setting("sequence", 2**53), "not-canonical"),
        "unknown schema": Attack(setting("schema", 2), "schema"),
        "schema true": Attack(setting("schema", True), "schema"),
        "not an object": Attack(respelled(lambda d: b"[]"), "schema"),
        "unknown field": Attack(setting("colour", "red"), "malformed"),
        "missing field": Attack(drop("round"), "malformed"),
        "sequence as a string": Attack(setting("sequence", "200"), "malformed"),
        "labels as a string": Attack(setting("labels", "dog"), "malformed"),
        "duplicate labels": Attack(setting("labels", ["dog", "dog", "cat"]), "malformed"),
        "empty label": Attack(setting("labels", ["dog", "", "cat"]), "malformed"),
        "files as an array": Attack(setting("files", []), "malformed"),
        "size as a string": Attack(setting("files/head.onnx/size", "1"), "malformed"),
        "no encoder": Attack(resigned(lambda d: d["files"].pop("encoder.onnx")), "malformed"),
        "head said to be installed": Attack(setting("files/head.onnx/installed", True), "malformed"),
        "golden not base64": Attack(setting("golden/features", "!!!!"), "malformed"),
        "file name with ../": Attack(renamed_encoder("../encoder.onnx"), "file-name"),
        "file name with a slash": Attack(renamed_encoder("a/encoder.onnx"), "file-name"),
        "absolute file name": Attack(renamed_encoder("/etc/passwd"), "file-name"),
        "manifest lists itself": Attack(renamed_encoder("manifest.json"), "file-name"),
        "other product": Attack(setting("product", "somebody-else"), "product"),
        "same sequence": Attack(setting("sequence", 100), "replay"),
        "older sequence": Attack(setting("sequence", 99), "rollback"),
        "not yet valid": Attack(setting("not_before", NOW + 1), "not-yet-valid"),
        "expired": Attack(setting("expires", NOW), "expired"),
        "newer runtime required": Attack(setting("onnxruntime/lowest", "1.99"), "runtime-too-old"),
        "other encoder": Attack(setting("files/encoder.onnx/sha256", sha256(b"other")), "other-encoder"),
        "other preprocess": Attack(setting("files/preprocess.onnx/sha256", sha256(b"other")), "other-preprocess"),
        "other feature width": Attack(resigned(other_width), "feature-width"),
        "extra file": Attack(written("readme.txt", b"hello"), "unlisted-file", filesystem=True),
        "extra folder": Attack(lambda f, k: (f / "more").mkdir(), "unlisted-file", filesystem=True),
        "encoder beside an update": Attack(written("encoder.onnx", encoder()), "unlisted-file", filesystem=True),
        "symlinked head": Attack(linked("head.onnx"), "not-regular", filesystem=True),
        "symlinked encoder": Attack(linked("encoder.onnx"), "not-regular", "bundle", filesystem=True),
        "symlinked manifest": Attack(linked("manifest.json"), "not-regular", filesystem=True),
        "symlinked signature": Attack(linked("manifest.sig"), "not-regular", filesystem=True),
        "fifo as head": Attack(instead("head.onnx", os.mkfifo), "not-regular", filesystem=True),
        "fifo as manifest": Attack(instead("manifest.json", os.mkfifo), "not-regular", filesystem=True),
        "folder as head": Attack(instead("head.onnx", os.mkdir), "not-regular", filesystem=True),
        "folder as manifest": Attack(instead("manifest.json", os.mkdir), "not-regular", filesystem=True),
        "head of another signed bundle": Attack(mixed(["head.onnx"]), "hash"),
        "encoder of another signed bundle": Attack(mixed(["encoder.onnx"]), "hash", "bundle"),
        "manifest of another signed bundle": Attack(mixed(["manifest.json", "manifest.sig"]), "hash", "bundle"),
        "signature of another signed bundle": Attack(mixed(["manifest.sig"]), "signature"),
        "head beyond its limit": Attack(setting("files/head.onnx/size", 1 << 40), "too-large"),
        "head is not ONNX": Attack(replaced("head.onnx", lambda: b"\xff" * 99), "graph"),
        "head with external data": Attack(replaced("head.onnx", head_with_external_data), "graph"),
        "head with hidden external data": Attack(replaced("head.onnx", head_with_hidden_external_data), "graph"),
        "head with its own function": Attack(replaced("head.onnx", head_with_function), "graph"),
        "head with a foreign domain": Attack(
            replaced("head.onnx", lambda: head_graph(head_weights(2), domain="evil", opsets=(("", 18), ("evil", 1)))),
            "graph",
        ),
        "head with another output name": Attack(
            replaced("head.onnx", lambda: head_graph(head_weights(2), logits="scores")), "graph"
        ),
        "head of another width": Attack(replaced("head.onnx", lambda: head_graph(head_weights(2, width=5))), "graph"),
        "preprocess is an encoder": Attack(replaced("preprocess.onnx", encoder), "graph", "bundle"),
        "encoder with foreign external data": Attack(
            replaced("encoder.onnx", lambda: encoder_outside(0, "../secret")[0]), "graph", "bundle"
        ),
        "encoder with an operator that none needs": Attack(
            replaced("encoder.onnx", lambda: encoder_with("FusedMatMul")), "graph", "bundle"
        ),
        "fewer labels than logits": Attack(resigned(fewer_labels), "labels"),
        "more labels than golden logits": Attack(setting("labels", ["a", "b", "c", "d"]), "labels"),
        "head with NaN weights": Attack(replaced("head.onnx", head_with_nan), "not-finite"),
        "NaN golden features": Attack(golden_of(features=np.full((2, WIDTH), np.nan)), "not-finite"),
        "golden logits that the head does not give": Attack(
            golden_of(logits=np.ones((2, len(LABELS)))), "self-test", judge="runtime"
        ),
        "golden images that the encoder sees otherwise": Attack(
            golden_of(features=np.ones((2, WIDTH)), logits=np.ones((2, WIDTH)) @ head_weights(2).T),
            "self-test",
            "bundle",
            judge="runtime",
        ),
        "golden images of an integer encoder in another order": Attack(
            resigned(int8_in_another_order), "self-test", "bundle", judge="runtime"
        ),
    }
    return table


ATTACKS = _attacks()
