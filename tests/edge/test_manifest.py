"""Canonical bytes, and a manifest that says exactly what schema 1 allows."""

import dataclasses
import json
import time

import numpy as np
import pytest

from fedclip_edge.bundle import FileEntry, Manifest, canonical
from fedclip_edge.bundle.manifest import OPTIONAL
from fedclip_edge.errors import BundleError
from tests.support import forge


def reason(function, *arguments):
    with pytest.raises(BundleError) as caught:
        function(*arguments)
    return caught.value.reason


@pytest.fixture
def described(delivered):
    return forge.read(delivered)


@pytest.mark.parametrize(
    "value", [{}, {"b": [1, -2, None, True, False], "a": {"x": "y"}}, {"a": 'é\u2028\U0001f600"\\\x7f\n'}]
)
def test_what_is_written_is_read_and_always_spelt_the_same(value):
    raw = canonical.dump(value)
    assert raw.isascii() and canonical.parse(raw) == value and canonical.dump(canonical.parse(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"\xff", "not-json"),
        (b"\xef\xbb\xbf{}", "not-json"),
        (b"NaN", "not-json"),
        (b'{"a":NaN}', "not-json"),
        (b"[Infinity]", "not-json"),
        (b'"a\nb"', "not-json"),
        (b"[" * 100_000, "not-json"),
        (b'{"a":' + b"9" * 10_000 + b"}", "not-json"),
        (b'{"a":1,"a":1}', "duplicate-key"),
        (b'{"a":{"b":1,"b":2}}', "duplicate-key"),
        (b"[]", "schema"),
        (b"1", "schema"),
        (b"null", "schema"),
    ],
)
def test_what_is_no_json_object_is_refused(raw, code):
    assert reason(canonical.parse, raw) == code


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'"' + b'\\"' * 500_000, "not-json"),
        (b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b',"89999":0}', "duplicate-key"),
        (b'"' * 1_000_001, "not-json"),
        (b"[" + b"0," * 500_000 + b"0]", "schema"),
    ],
    ids=["escaped quotes", "many keys", "quotes", "numbers"],
)
def test_hostile_text_takes_no_longer_than_friendly_text(raw, code):
    start = time.process_time()
    assert reason(Manifest.from_bytes, raw) == code
    assert time.process_time() - start < 5


@pytest.mark.parametrize("make", [forge.bundle, forge.update])
def test_a_manifest_comes_back_byte_for_byte(make, tmp_path):
    raw = (make(tmp_path / "made") / "manifest.json").read_bytes()
    manifest = Manifest.from_bytes(raw)
    assert manifest.to_bytes() == raw == forge.canonical(json.loads(raw))
    assert manifest.is_update == (make is forge.update)


def test_a_manifest_says_what_it_was_given(described):
    manifest = Manifest.from_bytes(forge.canonical(described))
    assert (manifest.sequence, manifest.round, manifest.labels) == (100, 1, forge.LABELS)
    head = forge.head(1)
    assert manifest.file("head") == ("head.onnx", FileEntry("head", len(head), forge.sha256(head), False))
    with pytest.raises(KeyError):
        manifest.file("encoder-data")
    golden = manifest.golden
    np.testing.assert_array_equal(golden.features, forge.features(forge.images()))
    np.testing.assert_allclose(golden.logits, golden.features @ forge.head_weights(1).T, atol=1e-6)
    assert [image.shape for image in golden.images] == list(forge.IMAGE_SHAPES)
    assert all((ours == given).all() for ours, given in zip(golden.images, forge.images(), strict=True))


def test_a_manifest_that_was_changed_keeps_every_field(described):
    manifest = Manifest.from_bytes(forge.canonical(described))
    later = dataclasses.replace(manifest, sequence=101, expires=5, parity={"int8": {"cosine": "0.99"}})
    expected = described | {"sequence": 101, "expires": 5, "parity": {"int8": {"cosine": "0.99"}}}
    assert later.to_bytes() == forge.canonical(expected)


def test_the_encoder_digest_covers_names_and_data(tmp_path):
    inside = Manifest.from_bytes((forge.bundle(tmp_path / "inside") / "manifest.json").read_bytes())
    outside = Manifest.from_bytes((forge.bundle(tmp_path / "outside", external=True) / "manifest.json").read_bytes())
    graph, data = forge.encoder_outside()
    lines = f"encoder.onnx {forge.sha256(graph)}\nencoder.onnx.data {forge.sha256(data)}\n"
    assert outside.encoder_digest() == forge.sha256(lines.encode())
    assert inside.encoder_digest() == forge.sha256(f"encoder.onnx {forge.sha256(forge.encoder())}\n".encode())


WRONG = [
    ("product", ""),
    ("product", 7),
    ("sequence", -1),
    ("sequence", True),
    ("sequence", None),
    ("not_before", "today"),
    ("expires", -1),
    ("labels", []),
    ("labels", ["a", 1, "c"]),
    ("labels", ["\ud800", "b", "c"]),
    ("prompt_template", None),
    ("method", ""),
    ("round", "1"),
    ("adapter", {"sha256": "x", "recipe_digest": ""}),
    ("adapter", {"sha256": "0" * 64}),
    ("backbone", {"name": "a", "fingerprint": "A" * 64}),
    ("backbone", "tiny"),
    ("feature_dim", 0),
    ("image_size", 1 << 20),
    ("precision", "bf16"),
    ("precision", ["fp32"]),
    ("files", {}),
    ("onnxruntime", {"lowest": "new", "tested": []}),
    ("onnxruntime", {"lowest": "1.16", "tested": "1.26"}),
    ("onnxruntime", {"lowest": "1" * 5000 + ".0", "tested": []}),
    ("versions", {"torch": 2}),
    ("golden", []),
    ("golden", {"features": "AAAA", "logits": "AAAA", "images": []}),
    ("parity", {"fp32": 1}),
    ("parity", ["a"]),
    ("parity", {"fp32": {"max_dlogit": 0.5}}),
    ("expires", 2**53),
    ("sample_range", [4095, 0]),
    ("sample_range", [0]),
    ("calibration", {}),
    ("calibration", {"temperature": 1, "threshold": 0.4, "false_reject_rate": 0.05}),
    ("sample_range", "0-4095"),
    ("privacy", {}),
    ("privacy", {"epsilon": 8.0}),
    ("privacy", {"epsilon": -1, "delta": 1e-5}),
    ("privacy", {"epsilon": 8.0, "delta": 0}),
    ("privacy", {"epsilon": 8.0, "delta": 1}),
    ("privacy", {"epsilon": True, "delta": 0.1}),
    ("privacy", {"epsilon": 8.0, "delta": 1e-5, "unit": "image"}),
    ("privacy", "epsilon 8"),
    ("next_keys", "AAAA"),
    ("next_keys", [7]),
    ("next_keys", ["!"]),
    ("next_keys", ["A" * 43]),
    ("next_keys", [forge.base64_of(range(31), "u1")]),
    ("next_keys", [forge.base64_of(range(33), "u1")]),
    ("next_keys", [forge.base64_of(range(n, n + 32), "u1") for n in range(9)]),
]


def test_a_calibration_is_read_and_written_when_there_is_one(described):
    assert Manifest.from_bytes(forge.canonical(described)).calibration is None
    described["calibration"] = forge.calibration(1)
    manifest = Manifest.from_bytes(forge.canonical(described))
    assert manifest.calibration.to_json() == forge.calibration(1)
    assert manifest.to_bytes() == forge.canonical(described)


def test_what_privacy_was_spent_is_read_and_written_when_there_is_some(described):
    assert Manifest.from_bytes(forge.canonical(described)).privacy is None
    described["privacy"] = forge.PRIVACY
    manifest = Manifest.from_bytes(forge.canonical(described))
    assert manifest.privacy == forge.PRIVACY
    assert manifest.to_bytes() == forge.canonical(described)


def test_a_sample_range_is_read_and_written_when_there_is_one(described):
    assert Manifest.from_bytes(forge.canonical(described)).sample_range is None
    described["sample_range"] = [-1000, 400.5]
    manifest = Manifest.from_bytes(forge.canonical(described))
    assert manifest.sample_range == (-1000, 400.5)
    assert manifest.to_bytes() == forge.canonical(described)


def test_next_keys_are_read_and_written_when_there_are_some(described):
    described["next_keys"] = [forge.base64_of(range(n, n + 32), "u1") for n in range(8)]
    manifest = Manifest.from_bytes(forge.canonical(described))
    assert [key.raw for key in manifest.next_keys] == [bytes(range(n, n + 32)) for n in range(8)]
    assert manifest.to_bytes() == forge.canonical(described)


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_field_is_named(key, value, described):
    with pytest.raises(BundleError, match=key) as caught:
        Manifest.from_bytes(forge.canonical(described | {key: value}))
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("key", sorted({*Manifest.__dataclass_fields__} - set(OPTIONAL)))
def test_every_key_is_required(key, described):
    del described[key]
    assert reason(Manifest.from_bytes, forge.canonical(described)) == ("schema" if key == "schema" else "malformed")


@pytest.mark.parametrize("key", ["parity", "product", "versions"])
def test_no_depth_crashes_what_names_the_fault(key, described):
    raw = forge.canonical(described | {key: "DEEP"})
    for depth in range(800, 1000):
        deep = raw.replace(b'"DEEP"', b'{"a":' * depth + b"1" + b"}" * depth)
        assert reason(Manifest.from_bytes, deep) in ("malformed", "not-json")


def test_golden_images_come_one_for_each_example(described):
    described["golden"]["images"].pop()
    assert reason(Manifest.from_bytes, forge.canonical(described)) == "malformed"


@pytest.mark.parametrize("spelling", ["AA==", "AAAA\n", "AB==", "AAA", "\u00e9"])
def test_base64_has_one_spelling(spelling, described):
    described["golden"]["images"][0]["rgb"] = spelling
    assert reason(Manifest.from_bytes, forge.canonical(described)) == "malformed"


def test_a_file_has_the_name_of_its_role(described):
    described["files"]["model.onnx"] = described["files"].pop("encoder.onnx")
    with pytest.raises(BundleError, match=r"encoder in encoder\.onnx") as caught:
        Manifest.from_bytes(forge.canonical(described))
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "/x", "C:x", "A", ".x", "", "x" * 65, "manifest.sig", "x\n"])
def test_only_plain_file_names(name, described):
    described["files"][name] = described["files"].pop("encoder.onnx")
    assert reason(Manifest.from_bytes, forge.canonical(described)) == "file-name"


def test_half_an_update_is_refused(described):
    described["files"]["encoder.onnx"]["installed"] = True
    assert reason(Manifest.from_bytes, forge.canonical(described)) == "malformed"


def test_a_manifest_beyond_its_limit_is_not_parsed():
    assert reason(Manifest.from_bytes, b"[" * (1 << 21)) == "too-large"
