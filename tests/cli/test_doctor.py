"""The doctor diagnoses a machine on which anything may be broken, and goes on."""

import re

import pytest

from fedclip_plugin.cli import doctor as doctor_module
from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.probes import Probe, probe, probe_onnxruntime
from fedclip_plugin.errors import BackboneError, FedClipError
from fedclip_plugin.trust.silo_keys import new_key, roster_line
from tests.support.policies import write_policy


def chapters(monkeypatch, *names):
    """Let the doctor examine some chapters only; the others start processes, which take seconds."""
    kept = tuple(chapter for chapter in doctor_module._CHAPTERS if chapter[0] in names)
    assert len(kept) == len(names)
    monkeypatch.setattr(doctor_module, "_CHAPTERS", kept)


def broken(error):
    def examine():
        yield "ok", "begun"
        raise error

    return examine


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FedClipError("no mpirun"), "FAULT no mpirun"),
        (ImportError("libx.so\nis gone"), "FAULT cannot be examined: ImportError: libx.so\\nis gone"),
        (FileNotFoundError(2, "No such file"), "FAULT cannot be examined: FileNotFoundError: [Errno 2] No such file"),
        (RuntimeError("Could not determine home directory."), "FAULT cannot be examined: RuntimeError: Could not"),
    ],
)
def test_a_chapter_that_fails_is_a_line_and_the_next_is_read(capsys, monkeypatch, error, told):
    monkeypatch.setattr(
        doctor_module, "_CHAPTERS", (("one", broken(error)), ("two", lambda: iter([("ok", "here\x1b")])))
    )
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["one", "  ok    begun"] and lines[2].strip().startswith(told)
    assert lines[3:] == ["two", "  ok    here\\x1b", "1 fault: mend first"]


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("raise SystemExit(3)", "it said nothing"),
        ("print('x')", ""),
        ("import time; time.sleep(9)", "no answer within 0.5 s"),
    ],
)
def test_a_probe_tells_how_it_ended(monkeypatch, program, fault):
    if "sleep" in program:
        monkeypatch.setattr("fedclip_plugin.cli.probes._SECONDS", 0.5)
    assert probe(program).fault == fault


def test_a_command_that_cannot_be_started_is_told():
    assert probe("/nowhere/mpirun", "--version") == Probe(
        "/nowhere/mpirun cannot be started: No such file or directory"
    )


def test_onnxruntime_that_ends_its_process_is_told(monkeypatch):
    monkeypatch.setattr("fedclip_plugin.cli.probes.probe", lambda program: Probe("ended by signal 11"))
    with pytest.raises(BackboneError, match="onnxruntime cannot be used: ended by signal 11; uninstall"):
        probe_onnxruntime()


def test_what_a_package_lacks_is_told_beside_the_rest(capsys, monkeypatch):
    chapters(monkeypatch, "packages", "FedML")
    monkeypatch.setattr(doctor_module, "probe", lambda *words: Probe("ModuleNotFoundError: No module named 'it'"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "note  pip cannot look for clashes" in out
    assert "FAULT fedml cannot be imported: ModuleNotFoundError" in out


@pytest.mark.parametrize(
    ("name", "harm", "told"),
    [
        ("HOME", "/nowhere", "note  HOME is /nowhere, which is no folder"),
        ("HOME", "", "ok    HOME is /"),
        ("TMPDIR", "/nowhere/at/all", "FAULT TMPDIR is /nowhere/at/all, which is no folder"),
    ],
)
def test_what_the_surroundings_lack_is_told(capsys, monkeypatch, name, harm, told):
    chapters(monkeypatch, "surroundings")
    monkeypatch.setenv(name, harm)
    assert main(["doctor"]) == ("FAULT" in told)
    assert told in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told(capsys, monkeypatch, tmp_path):
    chapters(monkeypatch, "surroundings")
    gone = tmp_path / "gone"
    monkeypatch.setattr("pathlib.Path.cwd", lambda: gone)
    assert main(["doctor"]) == 1
    assert re.search(
        r"FAULT folder for runs and caches: \S*gone\S*: No such file or directory", capsys.readouterr().out
    )


@pytest.fixture
def silo(monkeypatch, tmp_path):
    """Let the doctor look at what binds a silo alone: at a policy and keys that are not made yet."""
    chapters(monkeypatch, "what leaves this machine, as a silo")
    monkeypatch.delenv("FEDCLIP_EGRESS_LOG", raising=False)
    monkeypatch.setenv("FEDCLIP_SILO_POLICY", str(tmp_path / "policy.yaml"))
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(tmp_path / "keys"))
    return tmp_path


def test_a_silo_learns_which_policy_log_and_keys_bind_it(capsys, monkeypatch, silo):
    write_policy(silo / "policy.yaml")
    key = new_key(silo / "keys", "north")
    (silo / "keys" / "roster.yaml").write_text(roster_line("north", key))
    monkeypatch.setenv("FEDCLIP_EGRESS_LOG", str(silo / "logs" / "egress"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"  ok    silo policy \S+policy.yaml, SHA-256 [0-9a-f]{64}\n", out)
    assert f"  ok    egress logs go into {silo}/logs/egress\n" in out
    assert "  ok    key of silo north, " in out


def test_a_policy_key_or_log_that_cannot_be_used_is_a_fault_each(capsys, monkeypatch, silo):
    (silo / "policy.yaml").write_text("methods: any\n")
    new_key(silo / "keys", "north")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAULT SILO POLICY: " in out and "roster.yaml cannot be used" in out and "2 faults: mend first" in out
    write_policy(silo / "policy.yaml")
    (silo / "logs").write_text("no folder")
    monkeypatch.setenv("FEDCLIP_EGRESS_LOG", str(silo / "logs" / "egress"))
    assert main(["doctor"]) == 1
    assert f"FAULT egress logs cannot be written into {silo}/logs/egress" in capsys.readouterr().out


def test_a_machine_without_policy_and_keys_is_fit(capsys, monkeypatch, silo):
    monkeypatch.delenv("FEDCLIP_SILO_POLICY")
    monkeypatch.setattr("fedclip_plugin.trust.silo_policy.MACHINE_PLACE", silo / "none.yaml")
    monkeypatch.setattr("fedclip_plugin.trust.silo_policy.USER_PLACE", silo / "none.yaml")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "note  no silo policy (" in out and "note  no silo keys in " in out
