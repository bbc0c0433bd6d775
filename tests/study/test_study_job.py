"""The loop over cells with a federation that does nothing: what is run, in which order, and what a failure leaves."""

import gc
import weakref

import pytest

from fedclip_plugin.errors import DataError, FederationError, RunFolderError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.messages.exchange import packed
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.running import study_job
from fedclip_plugin.study.running.estimate import estimate_table
from fedclip_plugin.study.running.study_job import StudyJob
from fedclip_plugin.study.running.study_messages import RunCell, Selected
from fedclip_plugin.study.tables.choices_table import choices_table
from tests.support.mpi_world import arriving
from tests.support.round_records import write_rounds
from tests.support.study_samples import sample_answers, sample_result, sample_results, write_study

SMALL = {"seeds": [0, 1], "targets": ["photo"]}
CELLS = [
    *("fedclip_paper/photo/seed_0_point_0", "fedclip/photo/seed_0_point_0", "fedclip/photo/seed_0_point_1"),
    *("clip_adapter/photo/seed_0_point_0", "fedclip_paper/photo/seed_1_point_0", "fedclip/photo/seed_1_point_0"),
    "clip_adapter/photo/seed_1_point_0",
]
"""In order; the first grid point is the better one on photo."""


class Comm:
    """One rank, which hears only itself, or what it is told to hear from the server."""

    def __init__(self, rank, heard):
        self.rank, self.heard, self.aborted = rank, heard, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.rank + 1

    def Improbe(self, source, tag, status):
        return arriving(packed(next(self.heard)).header, source, status)

    def Abort(self, code):
        self.aborted.append(code)


class Loop:
    """Starts study jobs in this process and notes which cells they run."""

    def __init__(self, monkeypatch, out):
        self.folder, self.ran, self.said, self.deeds = ResultsFolder(out), [], [], {}
        self._patch, self._cell = monkeypatch, None
        monkeypatch.setattr(study_job, "run_job", self._run)
        monkeypatch.setattr(study_job, "own_answers", lambda cell, *_: {"target": sample_answers(cell, "target")})
        monkeypatch.setattr(study_job, "drawn", lambda *_: None)
        monkeypatch.setattr(study_job, "measured", lambda *_: None)
        monkeypatch.setattr(study_job, "cell_result", lambda cell, _: sample_result(cell))
        monkeypatch.setattr(stop.os, "_exit", self._exit)

    def start(self, study, rank=0, heard=(), only=()):
        comm = Comm(rank, iter(heard))
        self._patch.setattr(study_job.MPI, "COMM_WORLD", comm)
        self.ran.clear()
        StudyJob(study, self.folder, False, self.said.append, only).run()
        return comm

    def _run(self, recipe, folder, **_):
        self._cell = folder.path.relative_to(self.folder.path / "runs").as_posix()
        self._folder = folder
        self.ran.append(self._cell)
        for name in ("adapters/round_0001", "state/round_0001", "personal/photo/adapter"):
            (self._folder.path / name).mkdir(parents=True)
        (self._folder.path / "adapters" / "final").symlink_to("round_0001")
        write_rounds(self._folder.metrics, 0, 1)
        self.deeds.get(self._cell, lambda: None)()

    def _exit(self, code):
        raise SystemExit(code)


@pytest.fixture
def loop(monkeypatch, tmp_path):
    yield Loop(monkeypatch, tmp_path / "out")
    gc.unfreeze()


@pytest.fixture
def study(tmp_path):
    return load_study(write_study(tmp_path / "s.yaml", **SMALL))


def fail(error):
    def deed():
        raise error

    return deed


def test_every_cell_is_run_once_and_leaves_no_note(loop, study):
    loop.start(study)
    assert loop.ran == CELLS
    assert not [file for file in (loop.folder.path / "cells").rglob("*") if file.is_file() and file.suffix != ".json"]
    loop.start(study)
    assert loop.ran == []


def test_adapters_of_points_that_were_not_chosen_go_the_silos_own_with_them(loop, study):
    loop.start(study)
    kept, gone = (loop.folder.path / "runs" / name for name in CELLS[1:3])
    assert (kept / "adapters" / "final").is_dir()
    assert (kept / "personal" / "photo" / "adapter").is_dir()
    assert not (kept / "state").exists()
    assert not any((gone / "adapters").iterdir())
    assert not (gone / "personal").exists()
    assert (gone / "metrics.jsonl").is_file()


def test_a_cell_is_tidied_before_it_counts_as_done(loop, study, monkeypatch):
    monkeypatch.setattr(RunFolder, "tidy", lambda *_, **__: fail(KeyboardInterrupt)())
    with pytest.raises(KeyboardInterrupt):
        loop.start(study)
    assert not list((loop.folder.path / "cells").rglob("*.json"))


def test_results_that_could_be_asked_for_only_later_are_not_run_again(loop, study, tmp_path):
    sample_results(loop.folder.path, **SMALL)
    cases = {name: case.model_dump(by_alias=True) for name, case in study.cases.items()}
    cases["fedclip"]["grid"] += ({"train_args.learning_rate": 1e-2},)
    longer = load_study(write_study(tmp_path / "longer.yaml", **SMALL, cases=yaml_plain(cases)))
    loop.start(longer)
    assert loop.ran == ["fedclip/photo/seed_0_point_2"]
    assert StudyResults.read(Plan(longer), loop.folder).complete()


def yaml_plain(cases):
    return {name: {**case, "grid": list(case["grid"])} for name, case in cases.items()}


def test_only_a_damaged_file_is_run_again_and_told_once(loop, study):
    sample_results(loop.folder.path, **SMALL)
    cell = Plan(study).cell("fedclip", "photo", 0, 1)
    loop.folder.cell_file(cell).write_text("{", encoding="utf-8")
    loop.start(study)
    assert loop.ran == [cell.name]
    assert sum("is damaged" in line for line in loop.said) == 1


def test_what_fails_comes_last_and_is_left_out_after_two_times(loop, study):
    bad = CELLS[2]
    loop.deeds[bad] = fail(MemoryError("too large"))
    for before in (CELLS[:2], [*CELLS[:1], *CELLS[3:5], *CELLS[6:]]):
        with pytest.raises(SystemExit):
            loop.start(study)
        assert loop.ran[-1] == bad
        assert set(loop.ran[:-1]) <= set(before) | {CELLS[3], CELLS[4], CELLS[6]}
    found = StudyResults.read(Plan(study), loop.folder)
    assert bad not in found.given_up  # the second failure is counted by who starts the job, or by the next job
    loop.start(study)
    assert loop.ran == [CELLS[5]]  # the choice goes on without the point
    note = loop.folder.path / "cells" / f"{bad}.failed"
    told = f"failed twice and left out: {bad}; remove {note} to try again"
    found = StudyResults.read(Plan(study), loop.folder)
    assert told in loop.said
    assert (found.todo(), found.complete()) == ([], False)
    table = choices_table(found)
    assert told in table.notes
    assert table.rows[1][1] == "learning_rate 0.001 (without point 1, which failed)"
    assert told in estimate_table(found).notes
    assert estimate_table(found).rows[-1][1] == "0"
    note.unlink()
    loop.deeds.clear()
    loop.start(study)
    assert loop.ran == [bad]
    assert StudyResults.read(Plan(study), loop.folder).complete()


@pytest.mark.parametrize("error", [DataError("an image is broken"), FederationError("no silo is left")])
def test_what_the_user_can_mend_is_no_failure_of_the_cell(error, loop, study):
    loop.deeds[CELLS[1]] = fail(error)
    with pytest.raises(type(error)):
        loop.start(study)
    loop.folder.failures.count()
    assert loop.folder.failures.by_cell() == ({CELLS[1]: 1} if isinstance(error, FederationError) else {})


def test_a_job_that_was_told_to_stop_has_not_failed(loop):
    failures = loop.folder.failures
    for _ in range(3):
        failures.begin("a/photo/seed_0_point_0")
        failures.clear()
    assert failures.count() == []
    failures.begin("a/photo/seed_0_point_0")
    assert failures.count() == ["a/photo/seed_0_point_0"]
    assert (failures.by_cell(), failures.given_up()) == ({"a/photo/seed_0_point_0": 1}, {})
    failures.end("a/photo/seed_0_point_0")
    assert not list(loop.folder.path.rglob("*.failed"))


@pytest.mark.parametrize("rank", [0, 1])
def test_an_unforeseen_error_between_federations_ends_the_job_on_whichever_rank(rank, loop, study, monkeypatch, capfd):
    comms = []
    monkeypatch.setattr(Comm, "Abort", lambda comm, code: comms.append((comm.rank, code)))
    monkeypatch.setattr(study_job, "own_answers", lambda *_: 1 / 0)
    with pytest.raises(SystemExit):
        loop.start(study, rank, heard=[RunCell("fedclip", "photo", 0, 0), Selected(1)])
    assert comms == [(rank, 1)]
    told = capfd.readouterr().err
    assert f"the job stops: rank {rank}, between federations: " in told
    assert "ZeroDivisionError" in told


def test_a_full_disk_is_told_with_the_way_out(loop, study, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    sample_results(loop.folder.path, **SMALL)
    cell = Plan(study).cell("fedclip", "photo", 0, 0)
    monkeypatch.setattr("fedclip_plugin.study.running.results_folder.write_file", full)
    with pytest.raises(RunFolderError, match=r"seed_0_point_0.json cannot be written: No space left.* free some space"):
        loop.folder.save(cell, sample_result(cell))
    monkeypatch.setattr("pathlib.Path.read_bytes", full)
    with pytest.raises(RunFolderError, match="cannot be read"):
        loop.folder.load(cell)


def test_what_a_killed_job_left_half_written_is_swept(loop, study):
    left = [loop.folder.path / name for name in (".study.yaml.ab12.tmp", "cells/fedclip/photo/.x.json.ab12.tmp")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    loop.folder.begin(study)
    assert not any(path.exists() for path in left)


def test_models_of_the_cell_before_are_gone_when_memory_is_measured_anew(loop, study, monkeypatch):
    class Model:
        pass

    alive, seen = [], []

    def deed():
        model = Model()
        model.itself = model
        alive.append(weakref.ref(model))

    loop.deeds = dict.fromkeys(CELLS, deed)
    monkeypatch.setattr(study_job, "forget_peak", lambda: seen.append(sum(ref() is not None for ref in alive)))
    gc.disable()
    try:
        loop.start(study)
    finally:
        gc.enable()
    assert len(alive) == len(CELLS)
    assert set(seen) == {0}


def test_only_the_named_cases_are_run_and_the_folder_still_holds_the_whole_study(loop, study):
    loop.start(study, only=["fedclip_paper"])
    assert loop.ran == [name for name in CELLS if name.startswith("fedclip_paper/")]
    assert list(loop.folder.study().cases) == list(study.cases)
    assert "0 of 2 cells are there" in loop.said
    loop.start(study)
    assert loop.ran == [name for name in CELLS if not name.startswith("fedclip_paper/")]
