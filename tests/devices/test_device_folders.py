"""A device folder of the Node package: installed, updated, mended, rolled back, and what it refuses."""

import base64
import json
import shutil

import pytest
from PIL import Image

from fedclip_edge.bundle import keys
from tests.devices.support import hosts
from tests.devices.support.stories import STORIES
from tests.support import forge


@pytest.fixture(scope="module")
def shop(node, tmp_path_factory):
    """Return the folder of what there is to install, and the ids of the two keys."""
    place = tmp_path_factory.mktemp("shop")
    ids = {name: keys.generate(place / name).id for name in ("a", "b")}
    for signer in ("a", "b"):
        forge.update(place / f"update-{signer}", key=place / signer)
    forge.bundle(place / "bundle", key=place / "a")
    forge.bundle(place / "unsigned")
    forge.bundle(place / "newer", round=4, sequence=400, key=place / "a")
    forge.bundle(place / "same", round=2, sequence=200, key=place / "a")
    forge.bundle(place / "other", round=3, sequence=300, key=place / "a", encoder_seed=5)
    forge.bundle(place / "outside", key=place / "a", external=True)
    forge.update(place / "update-outside", key=place / "a", external=True)
    forge.update(place / "third-outside", round=3, sequence=300, key=place / "a", external=True)
    forge.update(place / "third", round=3, sequence=300, key=place / "a")
    forge.update(place / "unsigned-third", round=3, sequence=300)
    forge.update(place / "third-announced", round=3, sequence=300, key=place / "b")
    forge.update(place / "fourth-a", round=4, sequence=400, key=place / "a")
    forge.update(place / "announces", key=place / "a", next_keys=[raw(place / "b.pub")])
    forge.update(place / "announces-wrong", key=place / "a", next_keys=[raw(place / "b.pub")[4:]])
    Image.new("RGB", (20, 30), (200, 90, 10)).save(place / "x.png")
    return place, ids


def raw(public):
    """Return base64 of the 32 bytes of a key, which end its PEM's body."""
    return base64.b64encode(base64.b64decode(public.read_text().split("-----")[2])[-32:]).decode()


def run(*words):
    """Return (exit code, the JSON object that was printed)."""
    done = hosts.run(shutil.which("node"), hosts.COMMAND, *words, "--json")
    assert "    at " not in done.stderr
    return done.returncode, json.loads(done.stdout)


def succeed(*words):
    code, found = run(*words)
    assert code == 0, found
    return found


def told(code, found):
    if "error" in found:
        error = found["error"]
        assert code == (1 if error["reason"] else 2)
        return error["reason"] or "EdgeError"
    assert code == 0
    return found["round"] if "round" in found else found["keys"]


@pytest.mark.parametrize("name", STORIES)
def test_a_story(shop, tmp_path, name):
    place, ids = shop
    device = tmp_path / "device"
    for step in STORIES[name]:
        if callable(step):
            step(device)
            continue
        words, expected = step
        paths = [device if word == "D" else place / word if (place / word).exists() else word for word in words]
        if "--remove" in words:
            paths[-1] = ids[words[-1]]
        found = told(*run(*paths))
        assert found == ([ids[key] for key in expected] if isinstance(expected, list) else expected), words


def test_what_an_operating_system_leaves_behind_is_passed_over(shop, tmp_path):
    place, _ = shop
    delivered, device = shutil.copytree(place / "bundle", tmp_path / "bundle"), tmp_path / "device"
    device.mkdir()
    for folder in (delivered, device):
        for name in (".DS_Store", "Thumbs.db", "._head.onnx"):
            (folder / name).write_bytes(b"junk")
    (delivered / "__MACOSX").mkdir()
    assert succeed("update", device, delivered, "--key", place / "a.pub")["round"] == 1


def test_a_strange_folder_is_left_alone(shop, tmp_path):
    place, _ = shop
    (tmp_path / "notes.txt").write_text("mine")
    code, found = run("update", tmp_path, place / "bundle", "--key", place / "a.pub")
    assert (code, found["error"]["reason"]) == (1, "device-state") and "notes.txt" in found["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_only_what_may_serve_is_kept(shop, tmp_path):
    place, _ = shop
    device = tmp_path / "device"
    succeed("update", device, place / "bundle", "--key", place / "a.pub")
    for name in ("update-a", "other", "newer"):
        succeed("update", device, place / name)
    assert sorted(path.name for path in device.glob("round-*")) == ["round-300", "round-400"]
    assert len(list(device.glob("encoder-*"))) == 2 and not list(device.rglob("*.tmp"))


@pytest.mark.parametrize(("source", "before", "after"), [("update-a", 100, 200), ("other", 100, 300)])
def test_a_power_cut_leaves_the_old_round_or_the_new_one(shop, tmp_path, source, before, after):
    place, _ = shop
    device = tmp_path / "device"
    succeed("update", device, place / "bundle", "--key", place / "a.pub")
    job = {"action": "cuts", "folder": str(device), "source": str(place / source), "key": str(place / "a.pub")}
    found = hosts.ask("node_host.mjs", job)
    assert len(found) >= 4 and {told[0] for told in found} == {before, after}
    assert all(told[-1] == after for told in found)
    assert all(told[1:-1] == (["replay"] if told[0] == after else []) for told in found)


def test_a_power_cut_in_a_first_installation(shop, tmp_path):
    place, _ = shop
    (tmp_path / "device").mkdir()
    job = {"action": "cuts", "folder": str(tmp_path / "device"), "source": str(place / "bundle")}
    found = hosts.ask("node_host.mjs", job | {"key": str(place / "a.pub")})
    assert len(found) >= 7 and found[0] == [None, 100] and found[-1] == [100, "replay", 100]
    assert all(told[-1] == 100 for told in found)


def test_an_open_device_serves_what_another_program_installed(shop, tmp_path):
    place, _ = shop
    device = tmp_path / "device"
    succeed("update", device, place / "bundle", "--key", place / "a.pub")
    sources = [str(place / name) for name in ("update-a", "other", "newer")]
    found = hosts.ask("node_host.mjs", {"action": "reload", "folder": str(device), "sources": sources})
    assert found["sequences"] == [100, 200, 300, 400] and found["again"] is None
    assert found["changes"] == [[1, 2, False], [2, 3, True], [3, 4, True]]
    assert found["rolledBack"] == [300, 300]
    assert set(found["answers"]) == {1}  # while encoders were swapped, every answer came from one round
