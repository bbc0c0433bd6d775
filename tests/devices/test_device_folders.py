"""Python and Node make, update, mend and roll back the same device folders, and refuse the same."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from fedclip_edge.bundle import keys
from tests.devices.support import hosts
from tests.devices.support.stories import STORIES
from tests.support import forge

PROGRAMS = {"python": [sys.executable, "-m", "fedclip_edge.cli"], "node": [shutil.which("node"), hosts.COMMAND]}
HOSTS = ["python", "node"]


@dataclass(frozen=True)
class Shop:
    """Bundles and updates to install, by name, and the ids of the two keys."""

    place: Path
    ids: dict[str, str]

    def __getitem__(self, name):
        return self.place / name


@pytest.fixture(scope="module")
def shop(node, tmp_path_factory):
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
    forge.update(place / "third", round=3, sequence=300, key=place / "a")
    Image.new("RGB", (20, 30), (200, 90, 10)).save(place / "x.png")
    return Shop(place, ids)


def run(host, *words):
    """Return (exit code, the JSON object that was printed)."""
    options = ["--provider", "cpu"] if host == "python" else []
    done = hosts.run(*PROGRAMS[host], *words, *options, "--json")
    assert "Traceback" not in done.stderr and "    at " not in done.stderr
    return done.returncode, json.loads(done.stdout)


def succeed(host, *words):
    code, found = run(host, *words)
    assert code == 0, found
    return found


def tree(folder):
    """Return what a device folder holds, but for Python's lock file."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("bundle", "later"),
    [
        ("bundle", ["update-a", "third"]),
        ("outside", ["update-outside"]),
        ("bundle", ["other"]),
        ("bundle", ["newer"]),
        ("unsigned", ["update-a", "third"]),
    ],
)
def test_both_write_the_same_bytes(shop, tmp_path, bundle, later):
    for host in HOSTS:
        succeed(
            host, "update", tmp_path / host, shop[bundle], *([] if bundle == "unsigned" else ["--key", shop["a.pub"]])
        )
        for name in later:
            succeed(host, "update", tmp_path / host, shop[name], "--key", shop["a.pub"])
    found = tree(tmp_path / "node")
    assert found == tree(tmp_path / "python")
    assert found[f"keys/{shop.ids['a']}.pub"] == shop["a.pub"].read_bytes()
    assert json.loads(found["state.json"])["previous"] is not None


@pytest.mark.parametrize("host", HOSTS)
def test_both_pass_over_what_an_operating_system_leaves_behind(shop, tmp_path, host):
    delivered, device = shutil.copytree(shop["bundle"], tmp_path / "bundle"), tmp_path / "device"
    device.mkdir()
    for folder in (delivered, device):
        for name in (".DS_Store", "Thumbs.db", "._head.onnx"):
            (folder / name).write_bytes(b"junk")
    (delivered / "__MACOSX").mkdir()
    assert succeed(host, "update", device, delivered, "--key", shop["a.pub"])["round"] == 1


@pytest.mark.parametrize(("maker", "other"), [HOSTS, HOSTS[::-1]])
def test_each_goes_on_with_the_folder_of_the_other(shop, tmp_path, maker, other):
    device = tmp_path / "device"
    succeed(maker, "update", device, shop["bundle"], "--key", shop["a.pub"])
    assert succeed(other, "update", device, shop["update-a"])["old_round"] == 1
    assert succeed(maker, "predict", device, shop["x.png"])["round"] == 2
    changed = succeed(maker, "update", device, shop["other"])
    assert changed["encoder_replaced"] and changed["key_id"] == shop.ids["a"]
    answers = [succeed(host, "predict", device, shop["x.png"])["answers"][0] for host in HOSTS]
    assert answers[0]["label"] == answers[1]["label"]
    assert answers[0]["probability"] == pytest.approx(answers[1]["probability"], abs=2e-6)
    assert succeed(other, "rollback", device)["round"] == 2
    assert succeed(maker, "verify", device)["round"] == 2
    code, found = run(maker, "update", device, shop["other"])
    assert (code, found["error"]["reason"]) == (1, "replay") and "left by a rollback" in found["error"]["message"]


def comparable(found):
    """Return what two hosts have to agree on: everything but wording, rounding and time."""
    if "error" in found:
        return found["error"]["reason"], found["error"]["kind"] == "BundleError"
    told = dict(found, warnings=len(found["warnings"]))
    told.pop("folder", None)
    if "self_test" in told:
        told["self_test"] = {
            name: value if value is None else round(value, 4) for name, value in told["self_test"].items()
        }
    for answer in told.get("answers", []):
        answer["image"] = Path(answer["image"]).name
        if "error" in answer:
            answer["error"] = True
            continue
        for one in (answer, *answer["top"]):
            one["probability"] = round(one["probability"], 4)
    return told


def play(host, story, place, shop):
    """Return what each command of a story gives; words that name something of the shop stand for its path."""
    place.mkdir()
    shutil.copyfile(shop["b.pub"], place / "b.pub")
    told = []
    for step in story:
        if callable(step):
            step(place / "D")
            continue
        words = [place / "D" if word == "D" else shop[word] if shop[word].exists() else word for word in step]
        code, found = run(host, *words)
        told.append((step, code, comparable(found)))
    return told


@pytest.mark.parametrize("name", STORIES)
def test_both_tell_the_same_story(shop, tmp_path, name):
    with ThreadPoolExecutor() as pool:
        played = pool.map(lambda host: play(host, STORIES[name], tmp_path / host, shop), HOSTS)
    first, second = played
    assert first == second
    if (tmp_path / "node" / "D").exists():
        assert tree(tmp_path / "node" / "D") == tree(tmp_path / "python" / "D")


@pytest.mark.parametrize("host", HOSTS)
def test_an_interrupted_first_installation_is_repeated_by_either(shop, tmp_path, host):
    device = tmp_path / "device"
    (device / "rounds" / ".100.0123456789ab.tmp").mkdir(parents=True)
    (device / "keys").mkdir()
    (device / "installing").write_bytes(b"")
    succeed(host, "update", device, shop["bundle"])
    assert not list(device.rglob("*.tmp")) and not (device / "installing").exists() and not (device / "keys").exists()


def test_node_leaves_a_strange_folder_alone(shop, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, found = run("node", "update", tmp_path, shop["bundle"])
    assert (code, found["error"]["reason"]) == (1, "device-state") and "notes.txt" in found["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_reload_serves_what_another_program_installed(shop, tmp_path):
    device = tmp_path / "device"
    succeed("python", "update", device, shop["bundle"], "--key", shop["a.pub"])
    sources = [str(shop[name]) for name in ("update-a", "other", "newer")]
    found = hosts.ask("node_host.mjs", {"action": "reload", "folder": str(device), "sources": sources})
    assert found["sequences"] == [100, 200, 300, 400] and found["again"] is None
    assert found["changes"] == [[1, 2, False], [2, 3, True], [3, 4, True]]
    assert found["rolledBack"] == [300, 300]
    assert set(found["answers"]) == {1}  # while encoders were swapped, every answer came from one round
