"""The egress log: what was done to it afterwards is found, what cannot be found is said, and a start goes on in it."""

import json
import os

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import PolicyError
from fedclip_plugin.trust.audit import audit
from fedclip_plugin.trust.egress_log import EgressLog, log_place
from fedclip_plugin.trust.hash_chain import seal
from fedclip_plugin.trust.outgoing import Outgoing, TensorInfo

OPENING = {"run": "demo", "silo": "north", "recipe": "ab" * 32, "policy": "cd" * 32}


def write_start(path, rounds=(1, 2, 3), close=True):
    """Let a silo start, send an update a round, and perhaps end in order; return the last hash."""
    log = EgressLog(path, OPENING)
    log.note(Outgoing("status", [b"hello"]))
    for number in rounds:
        tensors = [TensorInfo("a.weight", (2, 3), "float32")]
        log.note(Outgoing("update", [b"head", bytes(24)], number, tensors, norm=0.5 * number))
    if close:
        log.close()
    else:
        os.close(log._file)  # as a killed process leaves it
    return log.last_hash


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "egress_1.jsonl"


def changed(path, change):
    """Write the log anew with its lines changed, and return what the audit says."""
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    return audit(path)


def kinds(found):
    return {finding.kind for finding in found.findings}


def test_a_whole_log_is_verified_and_summed_up(path, capsys):
    last = write_start(path)
    found = audit(path, [last, last[:12]])
    assert found.verified
    assert (found.lines, found.last_hash) == (6, last)
    assert main(["audit", str(path)]) == 0
    told = capsys.readouterr().out
    assert "run demo, silo north, recipe abababababababab, silo policy cdcdcdcdcdcdcdcd: 4 messages" in told
    rows = {line.split("  ")[0]: line.split()[1:] for line in told.splitlines() if "  " in line}
    assert rows["update"] == ["3", "84", "1", "to", "3", "1.5", "-", "-"]
    assert rows["status"] == ["1", "5", "-", "-", "-", "-"]
    assert rows["in all"][-7:] == ["89", "1", "to", "3", "1.5", "-", "-"]
    assert f"verified: 6 lines, last hash {last}" in told
    assert "--last-hash" in told, "what a chain does not find is said"
    assert main(["audit", str(path), "--last-hash", last[:12]]) == 0
    assert capsys.readouterr().out.endswith(f"it has every hash that was given: {last[:12]}\n")


def test_the_first_line_tells_of_the_start_and_each_other_of_its_message(path):
    write_start(path, rounds=(1,))
    opening, _, update, closing = map(json.loads, path.read_text().splitlines())
    assert OPENING.items() <= opening.items()
    assert (opening["number"], opening["previous"]) == (1, "0" * 64)
    assert update["tensors"] == [{"name": "a.weight", "shape": [2, 3], "dtype": "float32"}]
    assert (update["bytes"], update["norm"], update["epsilon"], update["round"]) == (28, 0.5, None, 1)
    assert update["time"].endswith("+00:00")
    assert (closing["messages"], closing["bytes"], closing["previous"]) == (2, 33, update["hash"])


TAMPERING = {
    "an edited figure": (lambda lines: [line.replace('"bytes": 28', '"bytes": 8') for line in lines], "edited"),
    "a space": (lambda lines: [lines[0].replace('"run": ', '"run":  '), *lines[1:]], "edited"),
    "a key twice": (lambda lines: [lines[0].replace('"run"', '"run": "x", "run"'), *lines[1:]], "edited"),
    "two lines swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "reordered"),
    "a line removed": (lambda lines: [*lines[:2], *lines[3:]], "missing"),
    "three lines removed": (lambda lines: [*lines[:1], *lines[4:]], "missing"),
    "the beginning removed": (lambda lines: lines[2:], "missing"),
    "a line twice": (lambda lines: [*lines[:3], *lines[2:]], "repeated"),
    "the end removed": (lambda lines: lines[:-2], "unclosed"),
    "half a line removed": (lambda lines: [*lines[:-1], lines[-1][:-20]], "malformed"),
    "no JSON": (lambda lines: [*lines[:2], "nothing\n", *lines[2:]], "malformed"),
    "too deep": (lambda lines: ["[" * 100_000 + "\n", *lines], "malformed"),
    "an empty line": (lambda lines: [*lines, "\n"], "malformed"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_each_kind_of_tampering_is_found(path, name, capsys):
    write_start(path)
    change, kind = TAMPERING[name]
    assert kind in kinds(changed(path, change))
    assert main(["audit", str(path)]) == 2
    assert "NOT VERIFIED" in capsys.readouterr().out


def test_what_was_removed_and_moved_is_named(path):
    write_start(path)
    removed = changed(path, lambda lines: [*lines[:1], *lines[3:]])
    assert [finding.text for finding in removed.findings if finding.kind == "missing"] == [
        "before line 2, numbers 2 to 3 are missing"
    ]
    assert "has other totals" in removed.findings[-1].text or "has other totals" in removed.findings[0].text


def test_a_line_that_was_edited_and_hashed_anew_does_not_fit_the_next(path):
    write_start(path)

    def forge(lines):
        entry = json.loads(lines[2])
        content = {key: value for key, value in entry.items() if key not in ("number", "previous", "hash")}
        line, _ = seal({**content, "norm": 0.1}, entry["number"], entry["previous"])
        return [*lines[:2], f"{line}\n", *lines[3:]]

    assert kinds(changed(path, forge)) == {"replaced"}


def test_a_line_of_another_shape_is_found_and_not_summed_up(path):
    write_start(path)

    def forge(lines):
        entry = json.loads(lines[-1])
        line, _ = seal({"entry": "message", "bytes": "many"}, entry["number"] + 1, entry["hash"])
        return [*lines, f"{line}\n"]

    assert kinds(changed(path, forge)) == {"malformed"}


@pytest.mark.parametrize(
    "figure",
    [
        {"bytes": 10**400},
        {"bytes": -1},
        {"round": 2**63},
        {"norm": 10**400},
        {"epsilon": -1},
        {"delta": True},
        {"account": 7},
    ],
)
def test_a_figure_that_no_silo_can_have_written_is_malformed(path, figure, capsys):
    write_start(path)

    def forge(lines):
        entry = json.loads(lines[-2])
        content = {key: value for key, value in entry.items() if key not in ("number", "previous", "hash")}
        line, _ = seal({**content, **figure}, entry["number"] + 2, json.loads(lines[-1])["hash"])
        return [*lines, f"{line}\n"]

    assert "malformed" in kinds(changed(path, forge))
    assert main(["audit", str(path)]) == 2
    assert f"has no usable {next(iter(figure))}" in capsys.readouterr().out


def test_a_chain_made_anew_shows_by_a_last_hash_alone_that_was_told_before(path):
    told = write_start(path)
    path.unlink()
    write_start(path, rounds=(1, 2))
    assert audit(path).verified
    found = audit(path, [told])
    assert kinds(found) == {"cut"}
    assert f"no line has the hash {told}" in found.findings[0].text


def test_a_killed_silo_leaves_no_closing_line_but_its_last_hash_does_as_well(path):
    last = write_start(path, close=False)
    assert kinds(audit(path)) == {"unclosed"}
    assert last[:16] in audit(path).findings[0].text
    assert audit(path, [last]).verified
    assert not audit(path, ["f" * 64]).verified


def test_a_resumed_silo_goes_on_in_the_same_chain(path):
    first = write_start(path, close=False)
    second = write_start(path, rounds=(4,))
    found = audit(path, [first, second])
    assert found.verified
    assert [len(start.messages) for start in found.starts] == [4, 2]
    assert json.loads(path.read_text().splitlines()[5])["previous"] == first
    assert kinds(audit(path)) == {"unclosed"}, "the end of the first start could have been cut before"


def test_a_log_that_was_cut_behind_an_earlier_starts_closing_line_shows_by_a_last_hash_alone(path):
    write_start(path)
    whole = path.read_bytes()
    told = write_start(path, rounds=(4,))
    path.write_bytes(whole)
    assert audit(path).verified
    assert "can cut it behind the closing line of an earlier start" in audit(path).to_text()
    assert kinds(audit(path, [told])) == {"cut"}


def test_a_damaged_log_is_not_added_to(path):
    write_start(path)
    path.write_text(path.read_text().replace('"bytes": 28', '"bytes": 8'))
    before = path.read_bytes()
    with pytest.raises(PolicyError, match=r"is damaged \(line 3 was edited.*move it to another place"):
        EgressLog(path, OPENING)
    assert path.read_bytes() == before


@pytest.mark.parametrize("torn", [b'{"number": 6, "entry": "mess', bytes(700)])
def test_a_line_that_a_power_cut_has_torn_is_taken_out_and_the_chain_goes_on(path, torn, caplog):
    first = write_start(path, close=False)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert kinds(audit(path)) == {"malformed", "unclosed"}
    second = write_start(path, rounds=(4,))
    assert path.read_bytes().startswith(whole + b'{"number": 6, "entry": "open"')
    assert audit(path, [first, second]).verified
    assert kinds(audit(path)) == {"unclosed"}, "that start has no end all the same"
    assert f"ended in {len(torn)} bytes of a line that was never whole" in caplog.text


def test_two_processes_do_not_write_one_log(path):
    log = EgressLog(path, OPENING)
    with pytest.raises(PolicyError, match="is being written by another process"):
        EgressLog(path, OPENING)
    log.close()
    assert audit(path).verified


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PolicyError, match=r"cannot be written .*nothing is sent before it is written"):
        EgressLog(tmp_path / "file" / "egress_1.jsonl", OPENING)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for place in ("link", "pipe"):
        with pytest.raises(PolicyError, match="cannot be written"):
            EgressLog(tmp_path / place, OPENING)


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_none_of_it(path, monkeypatch):
    log = EgressLog(path, OPENING)
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr("fedclip_plugin.trust.egress_log.os.write", lambda file, text: write(file, text[:30]))
    with pytest.raises(PolicyError, match="No space left on device"):
        log.note(Outgoing("status", [b"hello"]))
    assert path.read_bytes() == before
    monkeypatch.undo()
    log.close()
    assert audit(path).verified


def test_only_the_silos_user_reads_the_log(path):
    write_start(path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("named", ["", "logs"])
def test_the_variable_names_a_folder_by_its_full_path(tmp_path, named):
    with pytest.raises(PolicyError, match="must be the full path of a folder"):
        log_place(tmp_path, "demo", 1, named)
    assert log_place(tmp_path, "demo", 1, None) == tmp_path / "egress_1.jsonl"
    assert log_place(tmp_path, "demo", 2, "/srv/egress").as_posix() == "/srv/egress/demo_egress_2.jsonl"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{}/nothing"], "cannot be read: No such file"),
        (["{}"], "cannot be read: it is a folder"),
        (["{}/empty"], "is empty; give a silo's egress log"),
        (["{}/empty", "--last-hash", "12"], "must be 12 or more of the hexadecimal digits"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, capsys, words, told):
    (tmp_path / "empty").touch()
    assert main(["audit", *(word.format(tmp_path) for word in words)]) == 2
    assert told in capsys.readouterr().err
