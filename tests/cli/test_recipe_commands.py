"""The commands around a recipe's file: cp, keys, schema."""

import json

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, REFUSED_SECTIONS, REFUSED_VALUES
from fedclip_plugin.recipe.schema.sections import SECTIONS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_cp_copies_a_recipe_and_says_what_is_next(capsys, tmp_path):
    assert main(["cp", "pacs/vit_b32_fedclip", "my own.yaml"]) == 0
    told = capsys.readouterr().out
    assert "fedclip validate 'my own.yaml'" in told and "fedclip launch 'my own.yaml'" in told
    assert "Launch:    fedclip launch 'my own.yaml'" in (tmp_path / "my own.yaml").read_text()
    assert load_recipe("my own.yaml") == load_recipe_by_name("pacs/vit_b32_fedclip")


def load_recipe_by_name(name):
    from fedclip_plugin.recipe import find_recipe

    return load_recipe(find_recipe(name))


def test_cp_puts_a_study_into_a_folder(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    assert main(["cp", "studies/miniature", "mine"]) == 0
    assert "fedclip study mine/miniature.yaml --dry-run" in capsys.readouterr().out
    assert main(["validate", "mine/miniature.yaml"]) == 0


def test_cp_replaces_a_file_only_when_told_to(capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine\n")
    assert main(["cp", "pacs/vit_b32_fedclip", "mine.yaml"]) == 2
    assert "mine.yaml is there already: give another name, or --force to replace it" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine\n"
    assert main(["cp", "pacs/vit_b32_fedclip", "mine.yaml", "--force"]) == 0
    assert (tmp_path / "mine.yaml").read_text() != "mine\n"


def test_cp_names_what_is_missing(capsys):
    assert main(["cp", "pacs/vit_b32_fedclp", "mine.yaml"]) == 2
    assert "did you mean 'pacs/vit_b32_fedclip'" in capsys.readouterr().err
    assert main(["cp", "pacs/vit_b32_fedclip", "no/folder/mine.yaml"]) == 2
    assert "no/folder/mine.yaml: there is no folder no/folder: make it" in capsys.readouterr().err


def test_keys_tells_every_key(capsys):
    assert main(["keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for section, model in SECTIONS.items():
        start = next(number for number, line in enumerate(lines) if line.startswith(f"{section}: "))
        told = [line.split(":")[0].strip() for line in lines[start + 1 :] if line[:3].strip()]
        assert told[: len(model.model_fields)] == list(model.model_fields)


def test_keys_tells_one_key_in_every_section_that_has_it(capsys):
    assert main(["keys", "byzantine_client_num"]) == 0
    told = capsys.readouterr().out
    assert "defense_args.byzantine_client_num: whole number at least 1; not set by default\n" in told
    assert "attack_args.byzantine_client_num: " in told
    assert main(["keys", "attack_args.byzantine_client_num"]) == 0
    assert "defense_args" not in capsys.readouterr().out
    assert main(["keys", "fedclip_args.server_momentum"]) == 0
    assert "number at least 0 and less than 1; default 0.0\n" in capsys.readouterr().out


def test_keys_tells_why_a_key_or_a_value_of_fedml_is_refused(capsys):
    assert main(["keys", "config_version"]) == 0
    assert capsys.readouterr().out.startswith("config_version: refused in a recipe\n    FedML never reads it")
    assert main(["keys", "fhe_args"]) == 0
    assert "never switches on" in capsys.readouterr().out
    assert main(["keys", "backend"]) == 0
    assert "GRPC is refused: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["study", "recipe", "set", "targets", "seeds", "cases", "title", "grid"])
def test_keys_tells_the_keys_of_a_study_s_file_too(capsys, name):
    assert main(["keys", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: a key of a study's file, not of a recipe\n    ")


def test_keys_guesses_what_was_meant(capsys):
    assert main(["keys", "learning_rat"]) == 2
    assert "did you mean learning_rate?" in capsys.readouterr().err
    assert main(["keys", "train_args.comm_rounds"]) == 2
    assert "did you mean train_args.comm_round?" in capsys.readouterr().err
    assert main(["keys", "qqq"]) == 2
    assert "'qqq' is no key and no section of a recipe; fedclip keys lists them all" in capsys.readouterr().err


def test_the_page_has_a_heading_a_section_and_an_anchor_a_key(capsys):
    assert main(["keys", "--markdown"]) == 0
    page = capsys.readouterr().out
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert headings == [*SECTIONS, "FedML's keys that are refused"]
    for section, model in SECTIONS.items():
        assert all(page.count(f'<a id="{section}.{name}"></a>') == 1 for name in model.model_fields)
    refused = [*REFUSED_SECTIONS, *REFUSED_KEYS, *(f"{k}: {v}" for k, values in REFUSED_VALUES.items() for v in values)]
    assert all(f"| `{name}` | " in page for name in refused)
    widths = {line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("| <a")}
    assert widths == {5}
    assert "<domain>" not in page.replace("`root/<domain>/<class>/<image>`", "")


def test_schema_is_json_of_the_draft_that_editors_read(capsys):
    assert main(["schema"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(found["properties"]) == set(SECTIONS)
