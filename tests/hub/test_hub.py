"""Adapters go to a stand-in of the hub and come back; nothing is asked of it unasked for."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import AdapterFileError, HubError
from fedclip_plugin.hub import find_adapter, pull_adapter, what_to_publish
from fedclip_plugin.hub.stored_adapters import Repository
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.recipe.schema.sections import NOT_IN_DIGEST, SECTIONS
from fedclip_plugin.runs import RunFolder, load_adapter, save_adapter
from fedclip_plugin.runs.provenance import recipe_text
from tests.support.hub_server import TOKEN, Hub, commit_of, serving
from tests.support.paths import ROOT
from tests.support.random_adapters import fresh_adapter
from tests.support.round_records import round_record

NAME = "jane/sketches"


@pytest.fixture
def hub():
    return Hub()


@pytest.fixture
def address(hub, monkeypatch, tmp_path):
    """Serve the hub to huggingface_hub in this process, with a cache of its own."""
    from huggingface_hub import constants

    with serving(hub) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in has git LFS only
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield address


@pytest.fixture
def run(tmp_path):
    """A run folder of two silos and one round, with the built-in backbone."""
    paths = [f"fedclip_args.data_root={tmp_path}/secret", f"fedclip_args.run_dir={tmp_path}/secret/run"]
    recipe = load_recipe(ROOT / "recipes" / "own_images" / "vit_b32_sigmoid_gate_silo_folders.yaml", [
        *paths, "fedclip_args.backbone=clip-tiny", "fedclip_args.silos=[north, so|uth]",
        "train_args.client_num_in_total=2", "train_args.client_num_per_round=2",
    ])  # fmt: skip
    folder = RunFolder(tmp_path / "runs" / "own")
    folder.prepare(recipe_text(recipe), recipe.digest(), 1, resume=False)
    for number in (0, 1):
        saved = dataclasses.replace(fresh_adapter(round=number, seed=number), recipe_digest=recipe.digest())
        folder.save_round(saved)
        folder.complete_round(_record(number), keep=3)
    folder.mark_final(1)
    return folder.path


def _record(number):
    zero_shot = {} if number else {"zero_shot": {"validation": 0.7, "test": 0.71}}
    images = {"validation": 10, "test": 12}
    silo = {"train_loss": None, "validation": 0.6, "test": 0.62, "images": images, **zero_shot}
    return round_record(number, number, silos={"north": silo, "so|uth": silo}, validation=0.6, test=0.62)


def push(*words):
    return main(["push", *map(str, words)])


def test_a_run_is_pushed_and_pulled_and_its_name_loads_it(hub, address, run, capsys):
    from fedclip_plugin import Classifier

    assert push(run, NAME, "--license", "apache-2.0", "--message", "The first") == 0
    told = capsys.readouterr()
    assert f"sending to {NAME}: round 1 of fedclip on clip-tiny; labels dog, " in told.out
    assert "accuracies of north, so|uth" in told.out and f"{address}/{NAME}/commit/" in told.out
    files = hub.files(NAME)
    assert sorted(files) == ["README.md", "adapter.json", "adapter.safetensors", "recipe.yaml"]
    assert hub.repositories[NAME]["messages"] == ["The first"] and not hub.repositories[NAME]["private"]
    best = run / "adapters" / "best"
    assert all(files[name] == (best / name).read_bytes() for name in ("adapter.json", "adapter.safetensors"))
    assert len(hub.blobs) == 1  # the weights went by git LFS

    assert main(["pull", NAME]) == 0
    assert "round 1 of fedclip on clip-tiny, 7 labels" in capsys.readouterr().out
    asked = len(hub.requests)
    classifier = Classifier.load(NAME)
    assert classifier.saved.round == 1 and len(hub.requests) == asked
    assert sorted(path.name for path in find_adapter(NAME).iterdir()) == sorted(files)


def test_the_card_has_the_table_and_says_how_to_load_it(run):
    card = what_to_publish(run).files(Repository(NAME, "v1"), "mit")["README.md"].decode()
    _, header, body = card.split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["library_name"] == "fedclip" and told["license"] == "mit" and "federated-learning" in told["tags"]
    assert "base_model" not in told  # clip-tiny is not on the hub
    assert "| zero-shot CLIP | 71.0 | 71.0 | 71.0 |" in body and "| FedCLIP, best round 1 | 62.0 | 62.0 |" in body
    assert r"so\|uth" in body and "10.0 points below zero-shot CLIP" in body
    assert 'Classifier.load("jane/sketches@v1")' in body and "fedclip pull jane/sketches@v1" in body
    assert "| seed | 0 |" in body and "no noise was added" in body and "No license" not in body


@pytest.mark.parametrize("name", ["best", "round_0000"])
def test_the_card_of_any_round_tells_what_the_whole_run_spent_of_privacy(run, name):
    line = _record(2).model_dump()
    silos = {silo: own | {"epsilon": 7.98} for silo, own in line["silos"].items()}
    RunFolder(run).complete_round(round_record(2, **line | {"silos": silos, "delta": 1e-5, "best_round": 1}), keep=3)
    body = what_to_publish(run / "adapters" / name).files(Repository(NAME, "v1"), "mit")["README.md"].decode()
    assert "differential privacy with epsilon 7.98 and delta 1e-05" in body and "no noise" not in body


def test_nothing_of_this_machine_is_published(run, tmp_path):
    folder = run / "adapters" / "best"
    saved = dataclasses.replace(load_adapter(folder), backbone=str(tmp_path / "secret" / "my-clip"))
    other = tmp_path / "other"
    save_adapter(other, saved)
    files = what_to_publish(run).files(Repository(NAME)) | what_to_publish(other).files(Repository(NAME))
    assert not [name for name, content in files.items() if b"secret" in content or str(tmp_path).encode() in content]
    assert json.loads(files["adapter.json"])["backbone"] == "my-clip"
    recipe = yaml.safe_load(what_to_publish(run).files(Repository(NAME))["recipe.yaml"])
    assert "data_root" not in recipe["fedclip_args"] and recipe["train_args"]["comm_round"] > 0
    assert recipe["fedclip_args"]["silos"] == ["north", "so|uth"]


def test_an_adapter_outside_of_a_run_is_published_without_a_table(hub, address, run, tmp_path, capsys):
    saved = dataclasses.replace(
        load_adapter(run / "adapters" / "best"), backbone="openai/clip", metrics={"target": 0.5}
    )
    save_adapter(tmp_path / "alone", saved)
    assert push(tmp_path / "alone", NAME) == 0
    assert "there is no recipe to publish" in capsys.readouterr().err
    card = hub.files(NAME)["README.md"].decode()
    assert "base_model: openai/clip" in card and "| target | 50.0 |" in card and "No license is given" in card
    assert "recipe.yaml" not in hub.files(NAME)


def test_a_branch_is_made_and_pulled_by_its_name(hub, address, run):
    assert push(run, NAME) == 0
    assert push(run / "adapters" / "round_0000", NAME, "--revision", "untrained") == 0
    assert json.loads(hub.files(NAME, "untrained")["adapter.json"])["round"] == 0
    assert json.loads(hub.files(NAME)["adapter.json"])["round"] == 1
    assert "this adapter is round 0" in hub.files(NAME, "untrained")["README.md"].decode()
    assert load_adapter(pull_adapter(f"{NAME}@untrained")).round == 0
    assert load_adapter(find_adapter(f"{NAME}@untrained")).round == 0
    assert load_adapter(pull_adapter(f"{NAME}@{commit_of(hub.files(NAME))}")).round == 1


def test_private_is_never_public(hub, address, run, capsys):
    hub.add(NAME)
    assert push(run, NAME, "--private") == 2
    assert "others can see it" in capsys.readouterr().err and hub.files(NAME) == {}
    assert push(run, "jane/hidden", "--private") == 0
    assert hub.repositories["jane/hidden"]["private"]


def test_a_folder_wins_over_a_name(address, hub, run, monkeypatch, tmp_path):
    (tmp_path / "jane").mkdir()
    save_adapter(tmp_path / "jane" / "sketches", fresh_adapter(round=9))
    monkeypatch.chdir(tmp_path)
    assert load_adapter(find_adapter(NAME)).round == 9 and hub.requests == []


def test_a_name_that_was_not_pulled_is_refused_without_a_connection(address, hub, run, monkeypatch, tmp_path):
    assert push(run, NAME) == 0
    asked = len(hub.requests)
    with pytest.raises(AdapterFileError, match=f"fetch it with: fedclip pull {NAME}"):
        find_adapter(NAME)
    assert len(hub.requests) == asked
    assert find_adapter("no/such/folder") == Path("no/such/folder")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pull", "sketches"], "is no name of a repository: give OWNER/NAME"),
        (["pull", "jane/nothing"], "the hub refuses jane/nothing (404: Repository not found"),
        (["pull", f"{NAME}@v9"], "has no such revision"),
        (["pull", "jane/other"], "holds no adapter.json and no adapter.safetensors"),
        (["pull", "jane/a--b"], "is no name of a repository"),
    ],
)
def test_what_cannot_be_pulled_is_named(hub, address, capsys, words, told):
    hub.add(NAME)
    hub.add("jane/other", **{"config.json": b"{}"})
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_what_cannot_be_pushed_is_named(hub, address, run, capsys, monkeypatch, tmp_path):
    assert push(tmp_path, NAME) == 2
    assert "holds no adapter.json" in capsys.readouterr().err
    assert push(run, f"{NAME}@v1") == 2
    told = capsys.readouterr()
    assert "give the branch by itself, with --revision v1" in told.err and "sending" not in told.out
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert push(run, NAME) == 2
    assert "(401: " in (told := capsys.readouterr().err) and "HF_TOKEN, or 'hf auth login'" in told
    hub.add(NAME)
    assert push(run, NAME) == 2
    assert "(403: " in capsys.readouterr().err and hub.files(NAME) == {}


def test_a_hub_that_does_not_answer_is_named(hub, address, run, capsys, monkeypatch):
    from huggingface_hub import constants

    hub.down = True
    with pytest.raises(HubError, match=r"\(503: the hub is down\): try again later"):
        pull_adapter(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(run, NAME) == 2
    assert "the hub cannot be used" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["pull", NAME]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def test_a_download_that_is_altered_is_refused(hub, address, run, capsys):
    assert push(run, NAME) == 0
    hub.files(NAME)["adapter.safetensors"] = hub.files(NAME)["adapter.safetensors"][:-1] + b"?"
    assert main(["pull", NAME]) == 2
    assert "checksum" in capsys.readouterr().err


def test_commands_take_a_name_from_the_cache_alone(hub, address, run, capsys, monkeypatch, tmp_path):
    from huggingface_hub import constants

    assert push(run, NAME) == 0 and main(["pull", NAME]) == 0
    capsys.readouterr()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    image = next((ROOT / "docs").glob("*.png"))
    assert main(["predict", NAME, str(image), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)[str(image)]) == 3
    words = ["--adapter", NAME, "--out", str(tmp_path / "update"), "--against", str(tmp_path / "none")]
    assert main(["export", "update", *words]) == 1
    assert "none/manifest.json is missing" in capsys.readouterr().err  # the adapter was found
    assert hub.requests == []


def test_the_environment_names_the_hub_as_for_any_of_its_tools(hub, run, tmp_path):
    given = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    with serving(hub) as address:
        for words in (["push", str(run), NAME], ["pull", NAME]):
            done = _fedclip(*words, **given, HF_ENDPOINT=address)
            assert done.returncode == 0, done.stderr
    assert str(tmp_path / "cache") in done.stdout and "round 1 of fedclip" in done.stdout


def _fedclip(*words, **given):
    words = [sys.executable, "-m", "fedclip_plugin", *words]
    return subprocess.run(words, env=os.environ | given, capture_output=True, text=True, check=False)


def test_every_key_that_holds_a_place_is_left_out_of_a_published_recipe():
    places = {
        f"{name}.{key}"
        for name, model in SECTIONS.items()
        for key, field in model.model_fields.items()
        if "Path" in repr(field.annotation)
    }
    left_out = {f"{name}.{key}" for name, keys in NOT_IN_DIGEST.items() for key in keys}
    assert "fedclip_args.data_root" in places and places <= left_out
