"""Adapters and run folders on disk: whole or not at all, and checked when read."""

import errno
import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fedclip_edge.files import point_to, write_file, write_folder
from fedclip_plugin.errors import AdapterFileError, RunFolderError
from fedclip_plugin.runs import RunFolder, SavedAdapter, load_adapter, save_adapter
from fedclip_plugin.runs.adapter_file import add_metrics
from fedclip_plugin.runs.state import StateSeries
from tests.support.round_records import round_line, round_record


def adapter(number=1):
    rng = np.random.default_rng(number)
    tensors = {"hidden.weight": rng.normal(size=(4, 4)).astype(np.float32), "hidden.bias": np.zeros(4, np.float32)}
    text = rng.normal(size=(2, 4)).astype(np.float32)
    return SavedAdapter(
        "fedclip",
        4,
        "clip-tiny",
        "ab" * 32,
        "bf16",
        14.28,
        ("Hund", "日本"),
        "a {}",
        number,
        "digest",
        text,
        tensors,
        {"target": 0.5},
    )


def prepare(folder, digest="d", resume=False):
    folder.prepare(f"# digest: {digest}\ncommon_args: {{}}\n", digest, 1, resume)


@pytest.fixture
def trained(tmp_path):
    folder = RunFolder(tmp_path / "run")
    prepare(folder)
    for number, best in ((0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        folder.save_round(adapter(number))
        folder.complete_round(round_record(number, best), keep=2)
    return folder


def test_an_adapter_comes_back_as_it_was(tmp_path):
    save_adapter(tmp_path / "a", adapter())
    back = load_adapter(tmp_path / "a")
    plain = [field.name for field in fields(back) if field.name not in ("text_features", "tensors")]
    assert [getattr(back, name) for name in plain] == [getattr(adapter(), name) for name in plain]
    np.testing.assert_array_equal(back.text_features, adapter().text_features)
    assert all(np.array_equal(back.tensors[name], array) for name, array in adapter().tensors.items())


def test_an_adapter_is_written_as_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        save_adapter(tmp_path / name, adapter())
    for file in ("adapter.json", "adapter.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def newer(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))


def lacking(path):
    header = json.loads(path.read_text())
    del header["classes"]
    path.write_text(json.dumps(header))


def relabelled(path):
    header = json.loads(path.read_text())
    header["classes"].reverse()
    path.write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("adapter.safetensors", cut, "truncated or altered"),
        ("adapter.safetensors", flip, "truncated or altered"),
        ("adapter.safetensors", os.unlink, "cannot be read"),
        ("adapter.json", cut, "cannot be read"),
        ("adapter.json", os.unlink, "holds no adapter.json"),
        ("adapter.json", newer, "format 99"),
        ("adapter.json", lacking, "truncated or altered"),
        ("adapter.json", relabelled, "truncated or altered"),
    ],
)
def test_a_harmed_adapter_is_refused(tmp_path, file, harm, message):
    save_adapter(tmp_path / "a", adapter())
    harm(tmp_path / "a" / file)
    with pytest.raises(AdapterFileError, match=message):
        load_adapter(tmp_path / "a")


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    write_file(tmp_path / "x", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "x", b"new")
    with pytest.raises(OSError, match="No space left"):
        write_folder(tmp_path / "folder", {"a": b"1"})
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_and_a_link_are_replaced_in_one_step(tmp_path):
    write_folder(tmp_path / "f", {"a": b"1", "b": b"2"})
    write_folder(tmp_path / "f", {"a": b"3"})
    point_to(tmp_path / "best", "f")
    point_to(tmp_path / "best", "f")
    assert (tmp_path / "best" / "a").read_bytes() == b"3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "f"]


def test_the_best_and_the_newest_adapters_stay(trained):
    assert sorted(path.name for path in trained.adapters.iterdir()) == [
        "best",
        "round_0002",
        "round_0004",
        "round_0005",
    ]
    assert load_adapter(trained.adapters / "best").round == 2
    trained.mark_final(5)
    assert load_adapter(trained.adapters / "final").round == 5


def test_figures_are_added_to_an_adapter_and_its_weights_stay(tmp_path):
    save_adapter(tmp_path / "a", adapter())
    before, weights = load_adapter(tmp_path / "a"), (tmp_path / "a" / "adapter.safetensors").read_bytes()
    add_metrics(tmp_path / "a", {"validation": 0.7, "zero_shot_validation": 0.75})
    after = load_adapter(tmp_path / "a")
    assert after.metrics == {**before.metrics, "validation": 0.7, "zero_shot_validation": 0.75}
    assert (tmp_path / "a" / "adapter.safetensors").read_bytes() == weights
    assert (after.round, after.classes) == (before.round, before.classes)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"validation": 0.7, "zero_shot_validation": 0.721}, "the adapter is 2.1 points below zero-shot CLIP"),
        ({"validation": 0.7, "zero_shot_validation": 0.7}, None),
        ({"validation": 0.7, "zero_shot_validation": 0.7003}, None),
        ({"validation": 0.8, "zero_shot_validation": 0.7}, None),
        ({"validation": 0.7}, None),
        ({"validation": float("nan"), "zero_shot_validation": 0.7}, None),
        ({"validation": "0.1", "zero_shot_validation": 0.7}, None),
        ({}, None),
    ],
)
def test_an_adapter_says_itself_when_it_did_not_help(metrics, said):
    warning = replace(adapter(), metrics=metrics).warning
    assert warning is None if said is None else said in warning and "(70.0 and 72.1 %): it did not help" in warning


def test_a_run_goes_on_after_its_last_complete_round(trained):
    prepare(trained, resume=True)
    assert trained.last_complete() == round_record(5, 2)
    assert [entry.round for entry in trained.rounds()] == [0, 1, 2, 3, 4, 5]


def test_a_line_torn_by_a_crash_is_left_out_and_mended(trained):
    with trained.metrics.open("a") as stream:
        stream.write('{"round": 6, "val')
    assert trained.rounds()[-1].round == 5
    prepare(trained, resume=True)
    assert trained.metrics.read_text().count("\n") == 6


def test_a_broken_line_in_the_middle_is_an_error(trained):
    text = trained.metrics.read_text()
    trained.metrics.write_text("{oops\n" + text)
    with pytest.raises(RunFolderError, match="line 1 is not JSON"):
        trained.rounds()


def test_a_used_folder_is_not_overwritten(trained):
    with pytest.raises(RunFolderError, match="--resume"):
        prepare(trained)
    with pytest.raises(RunFolderError, match="another recipe"):
        prepare(trained, digest="other", resume=True)
    assert len(trained.rounds()) == 6


def test_a_final_adapter_without_metrics_is_neither_overwritten_nor_resumed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    prepare(folder)
    folder.save_round(adapter(3))
    folder.mark_final(3)
    with pytest.raises(RunFolderError, match="--resume"):
        prepare(folder)
    with pytest.raises(RunFolderError, match="plain FedMLRunner"):
        prepare(folder, resume=True)
    assert load_adapter(folder.adapters / "final").round == 3


def test_somebody_elses_files_are_left_alone(tmp_path):
    mine = tmp_path / "run" / "adapters" / "mine.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    prepare(RunFolder(tmp_path / "run"))
    assert mine.read_text() == "precious"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recipe.yaml").write_text("my: recipe\n")
    with pytest.raises(RunFolderError, match="would be overwritten"):
        prepare(RunFolder(tmp_path / "other"))
    assert (tmp_path / "other" / "recipe.yaml").read_text() == "my: recipe\n"
    (tmp_path / "other" / "recipe.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RunFolderError, match="would be overwritten"):
        prepare(RunFolder(tmp_path / "other"))


def test_a_resumed_run_tells_what_its_earlier_rounds_were_made_with(trained):
    text = "# digest: d\n# code: {}\n# versions: torch {}\ncommon_args: {{}}\n"
    trained.recipe.write_text(text.format("old", 1))
    trained.prepare(text.format("new", 2), "d", 1, resume=True)
    told = trained.recipe.read_text().splitlines()
    assert told[:2] == ["# until round 5: code: old", "# until round 5: versions: torch 1"]
    assert told[2:5] == ["# digest: d", "# code: new", "# versions: torch 2"]
    trained.prepare(text.format("newer", 3), "d", 1, resume=True)
    assert trained.recipe.read_text().count("until round 5") == 4


def test_a_run_that_ended_before_its_first_round_may_begin_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    prepare(folder)
    folder.save_round(adapter(0))
    folder.complete_round(round_record(0, 0), keep=2)
    prepare(folder, digest="other")
    assert folder.rounds() == []


def test_fewer_rounds_than_are_complete_are_refused(trained):
    trained.require_rounds(trained.rounds(), 5)
    with pytest.raises(RunFolderError, match=r"has 5 rounds already, and 4 are asked for .*: ask for 5 or more"):
        trained.require_rounds(trained.rounds(), 4)


def test_resume_refuses_an_altered_adapter(trained):
    flip(trained.round_folder(5) / "adapter.safetensors")
    with pytest.raises(AdapterFileError, match="altered"):
        trained.last_complete()


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        prepare(RunFolder(tmp_path / "file" / "run"))


def test_a_disk_that_is_too_full_is_refused_before_training(tmp_path):
    with pytest.raises(RunFolderError, match="free some space"):
        RunFolder(tmp_path / "run").prepare("", "d", 2**62, resume=False)


@pytest.fixture
def without_links(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_without_links_best_and_final_are_copies(without_links, trained):
    assert not trained.has_links()
    best = trained.adapters / "best"
    assert not best.is_symlink()
    assert load_adapter(best).round == 2
    written = (best / "adapter.json").stat().st_mtime_ns
    trained.save_round(adapter(6))
    trained.complete_round(round_record(6, 2), keep=2)
    assert (best / "adapter.json").stat().st_mtime_ns == written, "the best round is the same, and not copied again"
    trained.mark_final(6)
    assert load_adapter(trained.adapters / "final").round == 6
    assert sorted(path.name for path in trained.adapters.iterdir()) == [
        *("best", "final", "round_0002", "round_0005", "round_0006")
    ]
    shutil.rmtree(best)  # as a kill between two copies leaves it
    prepare(trained, resume=True)
    assert load_adapter(best).round == 2


@pytest.mark.parametrize("keep", [True, False])
def test_a_finished_run_without_links_keeps_its_copies_or_nothing(keep, without_links, trained):
    trained.mark_final(5)
    trained.tidy(keep_linked=keep)
    assert sorted(path.name for path in trained.adapters.iterdir()) == (["best", "final"] if keep else [])


def test_a_copy_becomes_a_link_where_there_are_links(trained):
    best = trained.adapters / "best"
    best.unlink()
    shutil.copytree(trained.round_folder(2), best)
    trained.save_round(adapter(6))
    trained.complete_round(round_record(6, 6), keep=2)
    assert best.is_symlink()
    assert load_adapter(best).round == 6


def test_what_a_killed_job_left_is_swept_at_the_next_start(trained):
    states = StateSeries(trained.state)
    states.begin(5)
    left = [
        *(trained.path / name for name in (".recipe.yaml.ab12.tmp", ".metrics.jsonl.ab12.tmp")),
        *(trained.adapters / name for name in (".round_0006.ab12.tmp", "round_0006", "round_0007")),
        trained.state / ".round_0006.ab12.tmp",
    ]
    for path in left:
        path.mkdir() if "round" in path.name else path.write_text("half")
    (trained.adapters / ".best.ab12.tmp").symlink_to("round_0006")
    report = trained.path / ".report.ab12.tmp"
    report.mkdir()
    prepare(trained, resume=True)
    states.begin(5)
    assert not [path for path in (*left, trained.adapters / ".best.ab12.tmp") if os.path.lexists(path)]
    assert report.is_dir(), "somebody may be writing it: reports are made while a job works"
    assert load_adapter(trained.round_folder(5)).round == 5


DEEDS = {
    "round": lambda run: run.save_round(adapter(6)),
    "line": lambda run: run.complete_round(round_record(6, 5), keep=2),
    "best": lambda run: run.complete_round(round_record(5, 5), keep=2),
    "final": lambda run: run.mark_final(5),
    "personal": lambda run: run.save_personal("north", adapter(6)),
    "state": lambda run: StateSeries(run.state).save(6, {"a": np.zeros(1)}),
    "states": lambda run: StateSeries(run.state).begin(5),
}


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device; free some space there"),
        (errno.EROFS, "Read-only file system; make it writable, or name another place"),
        (errno.ENOENT, "No such file or directory; it was removed or renamed meanwhile"),
    ],
)
def test_what_the_disk_says_becomes_a_sentence_with_the_path(name, number, remedy, trained, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    for owner, method in ((Path, "mkdir"), (Path, "symlink_to"), (Path, "open")):
        monkeypatch.setattr(owner, method, refuse)
    with pytest.raises(RunFolderError, match=rf"{trained.path}.* cannot be written: {remedy}") as caught:
        DEEDS[name](trained)
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("name", ["round", "line", "state"])
def test_a_run_folder_that_is_removed_while_it_trains_is_named(name, trained):
    shutil.rmtree(trained.path)
    with pytest.raises(RunFolderError, match="it was removed or renamed meanwhile"):
        DEEDS[name](trained)


@pytest.mark.parametrize("rounds", [[0, 1, 1, 2], [0, 2, 1], [1, 2]])
def test_rounds_out_of_order_are_neither_resumed_nor_reported_and_it_is_said_how_to_go_on(rounds, trained):
    trained.metrics.write_text("".join(json.dumps(round_line(number, 1)) + "\n" for number in rounds))
    for resume in (True, False):
        with pytest.raises(RunFolderError, match=r"where round \d belongs: two jobs wrote .* train again with another"):
            prepare(trained, resume=resume)
    with pytest.raises(RunFolderError, match=r"The adapters in .*/adapters can be used as they are"):
        trained.rounds()


@pytest.mark.parametrize("text", ["5\n{}\n", "\xff\n"])
def test_metrics_that_are_none_are_refused(text, trained):
    trained.metrics.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunFolderError, match="restore the file"):
        trained.rounds()
