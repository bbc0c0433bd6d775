"""Bounded, seeded fuzzing: whatever is done to a manifest, the answer is a refusal and never a crash."""

import copy
import json

import numpy as np
import pytest

from fedclip_edge.bundle import Installed, Manifest, Trust, keys, open_bundle
from fedclip_edge.errors import BundleError
from tests.support import forge

STRANGE = [
    None, True, False, 0, -1, 1, 2**31, 2**53 - 1, -(2**53) + 1, "", "a", "\0", "\ud800", "..", "NaN", "9" * 5000,
    "AAAA", [], {}, [[]], [None], ["a", "a"], {"": ""}, {"a": {"b": {"c": "d"}}}, [0] * 1000, {"sha256": "0" * 64},
]  # fmt: skip


@pytest.fixture(scope="module")
def signed(tmp_path_factory, signer):
    """Return (folder, manifest bytes, public keys) of a good update; tests write other manifests into the folder."""
    folder = forge.update(tmp_path_factory.mktemp("fuzz") / "update", key=signer)
    held = keys.load_public_keys([signer.with_name(signer.name + ".pub")])
    return folder, (folder / "manifest.json").read_bytes(), held


def mutated_bytes(raw, generator):
    """Return the bytes with 1 to 4 random changes: a flip, another byte, a cut, a copy, or a piece taken out."""
    changed = bytearray(raw)
    for _ in range(generator.integers(1, 5)):
        place, length = generator.integers(len(changed)), int(generator.integers(1, 30))
        match generator.integers(5):
            case 0:
                changed[place] ^= 1 << int(generator.integers(8))
            case 1:
                changed[place] = int(generator.integers(256))
            case 2:
                del changed[max(1, place) :]
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4 if len(changed) > 100:
                del changed[place : place + length]
    return bytes(changed)


def places(value, path=()):
    """Yield the path of every value inside a manifest."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def mutated_structure(described, generator):
    """Return a copy in which 1 or 2 values were replaced, removed, added, nested or put twice."""
    changed = copy.deepcopy(described)
    for _ in range(generator.integers(1, 3)):
        paths = list(places(changed))[1:]
        *parents, last = paths[generator.integers(len(paths))]
        holder = changed
        for key in parents:
            holder = holder[key]
        strange = copy.deepcopy(STRANGE[generator.integers(len(STRANGE))])
        match generator.integers(5):
            case 0 | 1:
                holder[last] = strange
            case 2:
                del holder[last]
            case 3 if isinstance(holder, dict):
                holder[f"new{generator.integers(9)}"] = strange
            case _:
                for _ in range(int(generator.integers(1, 60))):
                    holder[last] = [holder[last]] if generator.integers(2) else {"a": holder[last]}
    return changed


def test_no_mutation_of_a_signed_manifest_is_ever_accepted(signed):
    folder, raw, held = signed
    generator = np.random.default_rng(1)
    for _ in range(2000):
        changed = mutated_bytes(raw, generator)
        if changed == raw:
            continue
        assert not held[0].verify((folder / "manifest.sig").read_bytes(), changed)
    for _ in range(500):
        (folder / "manifest.json").write_bytes(changed := mutated_bytes(raw, generator))
        if changed == raw:
            continue
        with pytest.raises(BundleError) as caught:
            open_bundle(folder, Trust(held))
        assert caught.value.reason == "signature"


def test_mutations_of_the_signature_are_refused(signed):
    folder, raw, held = signed
    (folder / "manifest.json").write_bytes(raw)
    good = (folder / "manifest.sig").read_bytes()
    for bit in range(512):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        assert not held[0].verify(bytes(changed), raw)


def test_mutated_bytes_without_a_signature_are_refused_or_mean_another_manifest(signed):
    _, raw, _ = signed
    generator, accepted = np.random.default_rng(2), 0
    for _ in range(3000):
        changed = mutated_bytes(raw, generator)
        try:
            manifest = Manifest.from_bytes(changed)
        except BundleError:
            continue
        accepted += 1
        assert Manifest.from_bytes(manifest.to_bytes()).to_bytes() == manifest.to_bytes()
    assert accepted < 1500


@pytest.mark.parametrize("seed", [3, 4])
def test_structural_mutations_signed_by_the_right_key_never_crash(seed, signed, signer):
    folder, raw, held = signed
    described = json.loads(raw)
    first = Manifest.from_bytes(raw)
    generator, reasons = np.random.default_rng(seed), set()

    installed = Installed(100, first.encoder_digest(), first.file("preprocess")[1].sha256, first.feature_dim)
    for _ in range(500):
        forge.put_manifest(folder, mutated_structure(described, generator), signer)
        try:
            opened = open_bundle(folder, Trust(held), installed=installed, runtime=forge.RUNTIME, now=forge.NOW)
        except BundleError as error:
            reasons.add(error.reason)
        else:
            assert opened.head == forge.head(2) and opened.manifest.sequence > 100
    assert {"malformed", "schema", "labels"} <= reasons
