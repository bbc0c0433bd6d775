"""``fedclip silo-keys``: a key and its line of the roster, and what a machine has for a recipe."""

import pytest
import yaml

from fedclip_plugin.cli.main import main
from fedclip_plugin.recipe import find_recipe, load_recipe

RECIPE = "miniature/clip_tiny_fedclip"
MASKED = ["--set", "fedclip_args.secure_sums=true"]
SILOS = load_recipe(find_recipe(RECIPE)).silo_names()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


def make(names, capsys):
    """Make keys by the command, and return their lines of the roster."""
    lines = []
    for name in names:
        assert main(["silo-keys", "new", name]) == 0
        lines.append(capsys.readouterr().out.splitlines()[-1])
    return lines


def test_three_sites_make_keys_and_check_them(folder, capsys):
    (folder.parent / "keys").mkdir()
    (folder / "roster.yaml").write_text("\n".join(make(SILOS, capsys)), encoding="utf-8")
    assert main(["silo-keys", "check", RECIPE, *MASKED]) == 0
    told = capsys.readouterr().out
    assert f"keys are here for {', '.join(SILOS)}" in told
    assert told.count("key here  ") == 3


def test_the_line_is_the_rosters_and_no_private_key_is_printed(folder, capsys):
    assert main(["silo-keys", "new", SILOS[0]]) == 0
    told = capsys.readouterr().out
    public = yaml.safe_load(told.splitlines()[-1])[SILOS[0]]
    assert len(bytes.fromhex(public)) == 32
    assert "PRIVATE" not in told
    assert main(["silo-keys", "new", SILOS[0]]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_what_is_wrong_is_told_at_once_with_exit_code_2(folder, capsys):
    lines = make(SILOS[:2], capsys)
    (folder / "roster.yaml").write_text(lines[0] + "\n" + lines[1][:-5] + 'abcd"', encoding="utf-8")
    assert main(["silo-keys", "check", RECIPE, *MASKED]) == 2
    caught = capsys.readouterr()
    assert f"the roster lacks silo {SILOS[2]} of the recipe" in caught.err
    assert f"another key for silo {SILOS[1]}" in caught.err
    assert "2 faults of the silo keys" in caught.err
    assert "not on the roster" in caught.out


def test_a_machine_without_a_key_of_the_recipe_is_told_so(folder, capsys):
    lines = make(["elsewhere"], capsys)
    (folder / "roster.yaml").write_text(lines[0], encoding="utf-8")
    assert main(["silo-keys", "check", RECIPE, *MASKED]) == 2
    assert "no silo of the recipe has a key here" in capsys.readouterr().err


def test_without_a_roster_it_says_how_to_write_one(folder, capsys):
    assert main(["silo-keys", "check", RECIPE, *MASKED]) == 2
    assert "roster.yaml cannot be used: No such file or directory; write it" in capsys.readouterr().err


def test_a_recipe_without_secure_sums_needs_none(folder, capsys):
    (folder.parent / "keys").mkdir()
    (folder / "roster.yaml").write_text("\n".join(make(SILOS, capsys)), encoding="utf-8")
    assert main(["silo-keys", "check", RECIPE]) == 0
    assert "it needs no keys" in capsys.readouterr().out
