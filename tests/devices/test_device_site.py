"""``build.mjs`` publishes what it verified, byte for byte, or nothing."""

import json
import stat

import pytest

from fedclip_edge.bundle import keys
from tests.devices.support import hosts
from tests.support import forge, tampering


@pytest.fixture(scope="module")
def shop(node, tmp_path_factory):
    place = tmp_path_factory.mktemp("shop")
    for name in ("a", "b"):
        keys.generate(place / name)
    forge.bundle(place / "bundle", key=place / "a")
    forge.update(place / "update", key=place / "a")
    forge.bundle(place / "outside", key=place / "a", external=True)
    forge.update(place / "update-outside", key=place / "a", external=True)
    forge.bundle(place / "expired", key=place / "a", expires=1)
    forge.bundle(place / "newer", round=2, sequence=200, key=place / "a")
    forge.bundle(place / "future", key=place / "a", onnxruntime={"lowest": "99.0", "tested": []})
    for name in ("hash", "extra"):
        forge.bundle(place / name, key=place / "a")
    tampering.flipped("encoder.onnx")(place / "hash", None)
    (place / "extra" / "notes.txt").write_text("mine")
    return place


def build(node, *words):
    return hosts.run(node, hosts.BUILD, *words)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_site_holds_what_was_verified(node, shop, tmp_path):
    place = tmp_path / "deep" / "site"
    words = ["--bundle", shop / "bundle", "--update", shop / "update", "--key", shop / "a.pub", "--key", shop / "b.pub"]
    done = build(node, *words, "--out", place)
    assert done.returncode == 0, done.stderr
    assert contents(place / "bundle") == contents(shop / "bundle")
    assert contents(place / "update") == contents(shop / "update")
    site = json.loads((place / "site.json").read_text())
    held = [(place / key).read_bytes() for key in site["keys"]]
    assert site["product"] == "fedclip" and held == [(shop / name).read_bytes() for name in ("a.pub", "b.pub")]
    assert list(place.parent.iterdir()) == [place] and stat.S_IMODE(place.stat().st_mode) & 0o111 == 0o111


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bundle", "bundle", "--key", "b.pub"], "refused (signature)"),
        (["--bundle", "hash", "--key", "a.pub"], "refused (hash)"),
        (["--bundle", "bundle"], "refused (unsigned)"),
        (["--bundle", "extra", "--key", "a.pub"], "refused (unlisted-file)"),
        (["--bundle", "expired", "--key", "a.pub"], "refused (expired)"),
        (["--bundle", "future", "--key", "a.pub"], "refused (runtime-too-old)"),
        (["--bundle", "outside", "--key", "a.pub"], "not for the browser"),
        (["--bundle", "update", "--key", "a.pub"], "give it as --update"),
        (["--bundle", "bundle", "--update", "update-outside", "--allow-unsigned"], "refused (other-encoder)"),
        (["--bundle", "bundle", "--update", "newer", "--key", "a.pub"], "give it as --bundle"),
        (["--bundle", "newer", "--update", "update", "--key", "a.pub"], "refused (replay)"),
        (["--bundle", "nowhere"], "there is no folder"),
        (["--bundle", "bundle", "--key", "bundle"], "cannot be used"),
        (["--bundle", "bundle", "--colour"], "use: node build.mjs"),
        ([], "--bundle is missing"),
    ],
)
def test_nothing_is_left_of_what_is_refused(node, shop, tmp_path, words, said):
    paths = [word if word.startswith("--") else shop / word for word in words]
    done = build(node, *paths, "--out", tmp_path / "site")
    assert done.returncode == 1 and said in done.stderr and "    at " not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone(node, shop, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = build(node, "--bundle", shop / "bundle", "--out", tmp_path)
    assert done.returncode == 1 and "exists" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_help(node, shop):
    done = build(node, "--help")
    assert done.returncode == 0 and done.stdout.startswith("use: node build.mjs --bundle BUNDLE")
