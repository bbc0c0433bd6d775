"""The table of attacks: every way in which somebody might tamper with a bundle, and the refusal it must meet.

The scene of every attack: a device has ``bundle()`` (round 1, sequence 100) installed and holds one public key. The
victim is a full bundle or an update of round 2, sequence 200, signed with that key, which the attack changes. It is
opened at the moment ``NOW`` with onnxruntime ``RUNTIME``.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.forge import (
    LABELS,
    NOW,
    WIDTH,
    bundle,
    calibration,
    canonical,
    encoder,
    encoder_outside,
    head_graph,
    head_weights,
    sha256,
    update,
)
from tests.support.tampering import (
    appended,
    cut,
    deep,
    drop,
    fewer_labels,
    flipped,
    golden_of,
    head_with_external_data,
    head_with_hidden_external_data,
    head_with_nan,
    instead,
    int8_in_another_order,
    linked,
    mixed,
    other_width,
    renamed_encoder,
    replaced,
    resigned,
    respelled,
    setting,
    signed_by_mallory,
    twice_a_key,
    written,
)


@dataclass(frozen=True)
class Attack:
    """One way to tamper.

    ``reason`` is the refusal it must meet. ``victim`` is ``bundle`` or ``update``. ``filesystem``: it needs a file
    system (links, unlisted files), so it cannot be played to a browser. ``judge``: ``opening``, or ``runtime`` for
    what onnxruntime or the self-test notices.
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
        "an integer beyond 2**53": Attack(setting("sequence", 2**53), "malformed"),
        "unknown schema": Attack(setting("schema", 2), "schema"),
        "schema true": Attack(setting("schema", True), "schema"),
        "not an object": Attack(respelled(lambda d: b"[]"), "schema"),
        "threshold of one": Attack(setting("calibration", calibration(2) | {"threshold": 1}), "malformed"),
        "temperature of zero": Attack(setting("calibration", calibration(2) | {"temperature": 0}), "malformed"),
        "calibration with another field": Attack(setting("calibration", calibration(2) | {"more": 1}), "malformed"),
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
        "head is not ONNX": Attack(replaced("head.onnx", lambda: b"\xff" * 99), "graph", judge="runtime"),
        "head with external data": Attack(replaced("head.onnx", head_with_external_data), "graph"),
        "head with hidden external data": Attack(replaced("head.onnx", head_with_hidden_external_data), "graph"),
        "head with a foreign domain": Attack(
            replaced("head.onnx", lambda: head_graph(head_weights(2), domain="evil", opsets=(("", 18), ("evil", 1)))),
            "graph",
            judge="runtime",
        ),
        "head with another output name": Attack(
            replaced("head.onnx", lambda: head_graph(head_weights(2), logits="scores")), "graph", judge="runtime"
        ),
        "head of another width": Attack(
            replaced("head.onnx", lambda: head_graph(head_weights(2, width=5))), "graph", judge="runtime"
        ),
        "preprocess is an encoder": Attack(replaced("preprocess.onnx", encoder), "graph", "bundle", judge="runtime"),
        "encoder with foreign external data": Attack(
            replaced("encoder.onnx", lambda: encoder_outside(0, "../secret")[0]), "graph", "bundle"
        ),
        "fewer labels than logits": Attack(resigned(fewer_labels), "labels", judge="runtime"),
        "more labels than golden logits": Attack(setting("labels", ["a", "b", "c", "d"]), "labels"),
        "head with NaN weights": Attack(replaced("head.onnx", head_with_nan), "self-test", judge="runtime"),
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
