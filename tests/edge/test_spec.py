"""The published specification says what the code does: its schema, its reasons, and its test vectors."""

import ast
import base64
import copy
import json
import re

import jsonschema
import pytest

from fedclip_edge.bundle import Installed, Manifest, Trust, canonical, manifest_schema, open_bundle
from fedclip_edge.bundle.keys import PublicKey
from fedclip_edge.errors import BundleError
from fedclip_edge.runtime import EdgeClassifier
from fedclip_edge.runtime.self_test import build_tested
from fedclip_edge.runtime.sessions import SessionMaker
from tests.support import bundle_vectors, forge
from tests.support.paths import EDGE, ROOT

SPEC = EDGE / "fedclip_edge" / "spec"
SCHEMA = json.loads((SPEC / "manifest.schema.json").read_text())
REASONS = json.loads((SPEC / "reasons.json").read_text())
VECTORS = json.loads((SPEC / "vectors.json").read_text())
VALUES = [
    *(None, True, 0, 1, -1, 1.5, 2**53, "", "text", "a" * 64, "1.16"),
    *([], ["a"], ["a", "a"], [1], {}, {"a": "b"}, {"a": 1}),
]
FORM = {"schema", "malformed", "file-name", "labels"}


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Return manifests of a bundle and of an update, with and without next keys."""
    place = tmp_path_factory.mktemp("spec")
    made = [forge.read(forge.bundle(place / "bundle", external=True)), forge.read(forge.update(place / "update"))]
    more = {"next_keys": [base64.b64encode(bytes(32)).decode()], "sample_range": [-1000, 400.5]}
    return [*made, made[1] | more, made[0] | {"calibration": forge.calibration(1), "privacy": forge.PRIVACY}]


def by_code(value):
    """Return the reason for which the code refuses a manifest; None when it reads it."""
    try:
        Manifest.from_bytes(canonical.dump(value))
    except BundleError as error:
        return error.reason
    return None


def by_schema(value):
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(value)


def test_the_schema_has_the_keys_of_the_code():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(manifest_schema.MANIFEST)
    assert set(SCHEMA["$defs"]["file"]["properties"]) == set(manifest_schema.FILE)
    for name, rule in manifest_schema.MANIFEST.items():
        if isinstance(rule, dict):
            assert set(SCHEMA["properties"][name]["properties"]) == set(rule)
    assert set(SCHEMA["properties"]["calibration"]["properties"]) == set(forge.calibration(1))
    assert set(SCHEMA["properties"]["privacy"]["properties"]) == set(forge.PRIVACY)
    assert set(SCHEMA["properties"]["files"]["properties"]) == set(manifest_schema.ROLES.values())


def test_good_manifests_fit_the_schema(described):
    assert [(by_schema(value), by_code(value)) for value in described] == [(True, None)] * len(described)


def _changes(described):
    """Yield the manifest with one value replaced or one key removed, and where."""
    paths = [(key,) for key in described] + [
        (key, inner)
        for key in ("adapter", "backbone", "onnxruntime", "golden", "files", "calibration", "privacy")
        for inner in described[key]
    ]
    paths += [("files", "head.onnx", key) for key in manifest_schema.FILE] + [("files", "new.bin"), ("colour",)]
    for path in paths:
        for value in [*VALUES, KeyError]:
            changed = copy.deepcopy(described)
            home = changed
            for name in path[:-1]:
                home = home[name]
            home.pop(path[-1], None) if value is KeyError else home.update({path[-1]: value})
            yield path, value, changed


def test_schema_and_code_agree_on_the_form_of_changed_manifests(described):
    judged = 0
    for path, value, changed in _changes(described[-1]):
        reason, fits = by_code(changed), by_schema(changed)
        judged += reason is not None
        if reason is None:
            assert fits, (path, value)
        if not fits:
            assert reason in FORM, (path, value, reason)
        beyond = (
            path[0] in ("golden", "feature_dim", "labels", "files", "next_keys", "sample_range")
            or reason == "not-finite"
        )
        assert fits == (reason is None) or beyond, (path, value, reason)  # what JSON schema cannot say, the page does
    assert judged > 300


def test_the_reasons_are_those_of_the_code_and_of_the_page():
    found = set()
    for path in (EDGE / "fedclip_edge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BundleError":
                found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    assert {entry["reason"] for entry in REASONS} == found
    page = (ROOT / "docs" / "bundle_format.md").read_text(encoding="utf-8")
    table = page.partition("## Reasons")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\S+)` \| (.*) \|$", table, re.MULTILINE) == [
        (entry["reason"], entry["meaning"]) for entry in REASONS
    ]
    steps = page.partition("## Order of the checks")[2].partition("\n## ")[0]
    numbered = {int(step.split(".")[0]): step for step in re.split(r"\n(?=\d+\. )", steps)[1:]}
    for entry in REASONS:
        told = {number for number, step in numbered.items() if f"`{entry['reason']}`" in step}
        assert told == set(entry["steps"]), entry


def test_javascript_has_the_same_reasons_but_for_duplicate_keys():
    text = (ROOT / "export" / "js" / "lib" / "errors.mjs").read_text(encoding="utf-8")
    told = "".join(re.findall(r'^    "(.*)"', text, re.MULTILINE)).split()
    assert set(told) == {entry["reason"] for entry in REASONS} - {"duplicate-key"}


def test_every_attack_that_files_can_tell_is_a_case():
    assert [case["name"] for case in VECTORS["cases"]][5:] == bundle_vectors.cases()
    unused = set(VECTORS["contents"]) - {digest for case in VECTORS["cases"] for digest in case["files"].values()}
    assert not unused


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_a_case_gets_its_answer(case, tmp_path):
    device = VECTORS["device"]
    folder = tmp_path / "case"
    folder.mkdir()
    for name, digest in case["files"].items():
        content = base64.b64decode(VECTORS["contents"][digest])
        assert forge.sha256(content) == digest
        (folder / name).write_bytes(content)
    trust = Trust((PublicKey(base64.b64decode(device["key"])),), device["product"])
    installed = Installed(device["sequence"], device["encoder"], device["preprocess"], device["feature_dim"])
    assert _answer(folder, trust, installed, device, tmp_path) == case["reason"]
    if "answers" in case:
        with EdgeClassifier(folder, allow_unsigned=True, provider="cpu") as classifier:
            found = classifier.predict(classifier.manifest.golden.images)
        assert [{"label": one.label, "guess": one.guess, "known": one.known} for one in found] == case["answers"]
        assert {one["known"] for one in case["answers"]} == {True, False}


def _answer(folder, trust, installed, device, place):
    """Return the reason for which a device refuses a folder; None when it takes it."""
    maker = SessionMaker.choose("cpu", 1, spinning=False)
    base = open_bundle(forge.bundle(place / "first"), Trust(allow_unsigned=True), now=device["now"])
    try:
        opened = open_bundle(folder, trust, installed=installed, runtime=device["onnxruntime"], now=device["now"])
        running = build_tested(base, maker) if opened.manifest.is_update else None
        build_tested(opened, maker, running)
    except BundleError as error:
        return error.reason
    return None
