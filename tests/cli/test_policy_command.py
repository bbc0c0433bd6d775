"""``fedclip policy``: an operator hears beforehand what a silo's rank would say."""

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.trust.silo_policy import VARIABLE, example_policy
from tests.support.paths import ROOT
from tests.support.policies import write_policy


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Name a policy by the variable, and return what writes it."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "silo_policy.yaml"
    monkeypatch.setenv(VARIABLE, str(place))
    return lambda **changes: write_policy(place, **changes)


def test_the_example_is_printed_as_it_stands_in_the_docs(capsys):
    assert main(["policy", "example"]) == 0
    printed = capsys.readouterr().out
    assert printed == example_policy()
    assert printed in (ROOT / "docs" / "silo_operators.md").read_text(encoding="utf-8")


def test_a_recipe_that_is_allowed(policy, capsys):
    policy(max_rounds=30, runs=["demo"])
    assert main(["policy", "check", "miniature/clip_tiny_fedclip", "--run", "runs/demo"]) == 0
    told = capsys.readouterr().out
    assert "allowed: miniature/clip_tiny_fedclip as run demo" in told
    assert "backbone clip-tiny, fingerprint " in told


def test_the_fingerprint_that_is_told_is_the_one_that_is_compared(policy, capsys):
    policy()
    assert main(["policy", "check", "miniature/clip_tiny_fedclip"]) == 0
    known = capsys.readouterr().out.split("fingerprint ")[1].split()[0]
    policy(backbones=[known])
    assert main(["policy", "check", "miniature/clip_tiny_fedclip"]) == 0
    policy(backbones=["0" * 64])
    assert main(["policy", "check", "miniature/clip_tiny_fedclip"]) == 2
    assert f"has fingerprint {known}, and is none of those (backbones)" in capsys.readouterr().err


def test_every_violation_is_told_and_the_exit_code_is_2(policy, capsys):
    policy(max_rounds=2, methods=["linear_probe"], max_bytes=1000)
    assert main(["policy", "check", "miniature/clip_tiny_fedclip", "--set", "train_args.comm_round=5"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "SILO POLICY: 3 violations" in told[0]
    assert told[1].strip() == 'fedclip_args.method = "fedclip": allowed are linear_probe (methods)'
    assert told[2].strip() == "train_args.comm_round = 5: at most 2 (max_rounds)"
    assert "(max_bytes)" in told[3]


def test_a_machine_without_a_policy_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("fedclip_plugin.trust.silo_policy.MACHINE_PLACE", tmp_path / "none.yaml")
    assert main(["policy", "check", "miniature/clip_tiny_fedclip"]) == 2
    assert "this machine has no silo policy" in capsys.readouterr().err


def test_without_a_command_of_its_own_it_says_which_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["policy"])
    assert "COMMAND" in capsys.readouterr().err
