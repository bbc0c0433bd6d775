"""What crosses between ranks: all that is caught on its way is declared, and nothing of a single image is in it."""

import dataclasses
import getpass
import re
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fedclip_plugin import what_leaves
from fedclip_plugin.data import split_60_20_20
from fedclip_plugin.federated.messages.message_format import FEDML_MESSAGES
from fedclip_plugin.federated.roles.task import AnswerHistory, Answers
from fedclip_plugin.federated.startup.preflight import open_run
from fedclip_plugin.federated.startup.preparation import Preparation
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.running import study_job
from tests.support.in_process_federation import Federation, silo_features
from tests.support.mpi_world import World
from tests.support.paths import ROOT
from tests.support.round_records import write_rounds
from tests.support.study_samples import IMAGES, SAMPLE, _labels, sample_result, write_study
from tests.support.workshop import OWN_SILOS

CPU = torch.device("cpu")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def private():
    """Words that are a machine's or a person's own."""
    own = {socket.gethostname(), getpass.getuser(), str(Path.home()), str(Path.cwd())}
    return own | ({BOOT.read_text().strip()} if BOOT.is_file() else set())


def require_no_more_than_declared(value, forbidden, most):
    """Go through a message: declared types only, no forbidden word, no sequence as long as a silo has images."""
    if dataclasses.is_dataclass(value) or hasattr(type(value), "model_fields"):
        assert type(value) in (*what_leaves.MESSAGES, *what_leaves.PARTS), type(value)
        for name in what_leaves.fields_of(type(value)):
            require_no_more_than_declared(getattr(value, name), forbidden, most)
    elif isinstance(value, torch.Tensor):
        assert not {*value.shape, value.numel()} & most, f"{tuple(value.shape)} is as long as a silo has images"
    elif isinstance(value, dict):
        for key, content in value.items():
            require_no_more_than_declared(key, forbidden, most)
            require_no_more_than_declared(content, forbidden, most)
    elif isinstance(value, (list, tuple)):
        assert len(value) < min(most), f"{len(value)} values are as many as a silo has images"
        for content in value:
            require_no_more_than_declared(content, forbidden, most)
    elif isinstance(value, str):
        words = {value, *re.split(r"[\W_]+", value)}
        assert not words & forbidden, value
        assert not [word for word in forbidden if "/" in word and word in value], value
        assert "/" not in value or re.fullmatch(r"\w+/\w+/seed_\d+_point_\d+", value), value
    else:
        assert value is None or isinstance(value, (int, float)), type(value)


def test_the_page_is_that_of_the_message_types():
    kept = (ROOT / "docs" / "what_leaves_a_silo.md").read_text(encoding="utf-8")
    assert kept == what_leaves.page(), "make it anew: python -m fedclip_plugin.what_leaves > docs/what_leaves_a_silo.md"


def start(recipe, folder):
    """Start a federation of four ranks, each on a host of its own, until training would begin."""
    world = World(4, ["a", "b", "c", "d"])

    def act(comm):
        open_run(comm, RunFolder(folder), recipe, resume=False)
        return Preparation(recipe, comm, CPU, progress=True, say=lambda text: None).run()

    return world, world.together(act)


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_else_crosses_at_the_start(workshop, own_images, tmp_path, broken):
    root = own_images(f"crossing_{broken}")
    files = sorted(root.rglob("*.png"))
    if broken:
        next((root / "silo_b").rglob("*.png")).write_bytes(b"no picture")
    changes = OWN_SILOS | {"fedclip_args__data_root": str(root), "fedclip_args__feature_cache_dir": str(tmp_path / "f")}
    world, results = start(load_recipe(workshop.recipe("crossing", **changes)), tmp_path / "run")
    kinds = {type(content) for *_, content in world.crossed}
    if broken:
        assert str(results[0]).startswith("1 of 4 ranks cannot start\n  silo_b: ")
        assert all(str(error) == "the job cannot start: the server's console says why" for error in results[1:])
    else:
        assert [prepared.name for prepared in results] == ["server", "silo_a", "silo_b", "silo_c"]
        assert [prepared.silos for prepared in results[1:]] == [()] * 3
        assert kinds == {*what_leaves.START_FROM_SILO, *what_leaves.START_FROM_SERVER} - {what_leaves.CannotStart}
    forbidden = private() | {str(tmp_path), str(root), *(path.stem for path in files), *(path.name for path in files)}
    most = {len(files) // 3, int(0.2 * (len(files) // 3))}
    headers = [header for *_, header in world.sent]
    assert not [word for word in forbidden for header in headers if "/" in word and word.encode() in header]
    for sender, receiver, content in world.crossed:
        assert type(content) in (what_leaves.START_FROM_SILO if sender else what_leaves.START_FROM_SERVER)
        assert 0 in (sender, receiver), "silos do not talk to each other"
        require_no_more_than_declared(content, forbidden, most)
    others = {"silo_a", "silo_b", "silo_c"}
    heard = {
        (receiver, name)
        for _, receiver, content in world.crossed
        if receiver
        for name in others
        if name in repr(content)
    }
    assert not heard, "a silo hears of no other one"
    assert not world.inside, "every rank is on a machine of its own"


@pytest.mark.usefixtures("fresh_fedml", "silo_keys")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"codec": "int8", "silos_per_round": 2},
        {"personal_epochs": 1},
        {"method": "ridge", "comm_round": 1, "personal_statistics": True, "forgettable": True},
        {"method": "gda", "comm_round": 1},
        {"secure_sums": True},
        {"secure_sums": True, "method": "ridge", "comm_round": 1},
    ],
)
def test_nothing_else_crosses_in_a_federation(tmp_path, changes):
    federation, caught = Federation(tmp_path / "wired", target=silo_features(7).test, **changes), []
    deliver = federation.wire.deliver

    def note(pair):
        caught.append((pair, federation.wire.waiting[pair][0].header, federation.wire.message(pair)))
        deliver(pair)

    federation.wire.deliver = note
    federation.run()
    declared = {str(each.number): each for each in FEDML_MESSAGES}
    forbidden, seen = private() | {str(tmp_path)}, set()
    for (sender, receiver), header, message in caught:
        each = declared[str(message.get_type())]
        seen.add(each.number)
        assert each.from_silo is (sender > 0)
        assert set(message.get_params()) <= each.keys()
        assert (message.get_sender_id(), message.get_receiver_id()) == (sender, receiver)
        assert set(vars(message)) == {"type", "sender_id", "receiver_id", "msg_params"}
        require_no_more_than_declared(message.get_params(), forbidden, {10, 20, 40})
        assert not [word for word in forbidden if "/" in word and word.encode() in header]
    assert {1, 2, 3, 5} <= seen
    if "method" in changes:
        names = {name for *_, message in caught for name in message.get_params().get("model_params", {})}
        told = what_leaves.page()
        assert not [
            name for name in names if f"`{name.removeprefix('others.')}`" not in told and name not in PARAMETERS
        ]


PARAMETERS = {"rows", "factor", "biases"}
"""Of the adapter itself."""


class Threads:
    """MPI's world, as each thread sees it."""

    def __init__(self):
        self.local = threading.local()

    def __getattr__(self, name):
        return getattr(self.local.comm, name)


def study_traffic(study, out, monkeypatch, world):
    """Run a study with federations that do nothing but answer; every rank is a thread."""
    threads, plan = Threads(), Plan(study)

    def federated(recipe, folder, histories, **_):
        cell = plan.named(folder.path.relative_to(out / "runs").as_posix())
        rank = threads.local.comm.number
        silos = [name for name in ("art_painting", "cartoon", "photo", "sketch") if name != cell.target]
        part = silos[rank - 1] if rank else "target"
        labels, zero_shot, selected, *_ = (torch.as_tensor(row) for row in _labels(cell, part, 0.05))
        own = torch.as_tensor(split_60_20_20(IMAGES, cell.seed).test) if rank else torch.arange(IMAGES)
        sure = torch.full((len(own),), 0.5)
        history = histories.setdefault(part, AnswerHistory(positions=own.numpy() if rank else None))
        history.zero_shot = Answers(labels[own], zero_shot[own], sure)
        history.note(1, [Answers(labels[own], row[own], sure) for row in selected])
        if rank == 0:
            folder.path.mkdir(parents=True, exist_ok=True)
            write_rounds(folder.metrics, 0, 1, silos=silos)

    def result(cell, measured):
        known = sample_result(cell)
        return known.model_copy(update={"counts": dict(measured.counts), "drawn": measured.drawn})

    monkeypatch.setattr(study_job, "MPI", SimpleNamespace(COMM_WORLD=threads))
    monkeypatch.setattr(study_job, "run_job", federated)
    monkeypatch.setattr(study_job, "cell_result", result)
    monkeypatch.setattr(study_job, "gc", SimpleNamespace(freeze=lambda: None, collect=lambda: None))

    def act(comm):
        threads.local.comm = comm
        study_job.StudyJob(study, ResultsFolder(out), False, lambda text: None).run()
        return comm.number

    return world.together(act)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two cases on two targets with two seeds; one of them answers with an adapter a silo."""
    monkeypatch.setattr("os.fsync", lambda file: None)  # power will not fail here, and disks are slow
    cases = {name: SAMPLE["cases"][name] for name in ("fedclip_paper", "clip_adapter")}
    return load_study(write_study(tmp_path / "s.yaml", seeds=[0, 1], targets=["photo", "sketch"], cases=cases))


def test_nothing_else_crosses_in_a_study_and_its_intervals_are_known(study, tmp_path, monkeypatch):
    out, world = tmp_path / "out", World(4)
    assert study_traffic(study, out, monkeypatch, world) == [0, 1, 2, 3]
    most = {IMAGES, int(0.2 * IMAGES)}
    for sender, receiver, content in world.crossed:
        assert type(content) in (what_leaves.STUDY_FROM_SILO if sender else what_leaves.STUDY_FROM_SERVER)
        assert 0 in (sender, receiver)
        require_no_more_than_declared(content, private() | {str(tmp_path)}, most)
    assert {type(content) for *_, content in world.crossed} == {
        *what_leaves.STUDY_FROM_SILO,
        *what_leaves.STUDY_FROM_SERVER,
    }
    found = StudyResults.read(Plan(study), ResultsFolder(out))
    assert found.complete()
    assert len(found.joint) == 2 * (2 + 4)
    assert None not in found.joint.values()
    kept = {path.parent.name for path in out.rglob("*.json") if 'images":"' in path.read_text()}
    assert kept == {"answers"}, "answers for single images are in the ranks' own files only"


def test_a_study_whose_answers_are_gone_is_told_so_once(study, tmp_path, monkeypatch):
    out = tmp_path / "out"
    study_traffic(study, out, monkeypatch, World(4))
    for left in (*out.rglob("answers/cartoon.json"), *out.glob("joint/*.json")):
        left.unlink()
    world = World(4)
    assert study_traffic(study, out, monkeypatch, world) == [0, 1, 2, 3]
    found = StudyResults.read(Plan(study), ResultsFolder(out))
    lost = {question.part for question, kinds in found.joint.items() if kinds is None}
    assert lost == {"cartoon"}
    assert {type(content) for *_, content in world.crossed} == {what_leaves.Ask, what_leaves.Joint, what_leaves.Over}
    again = World(4)
    assert study_traffic(study, out, monkeypatch, again) == [0, 1, 2, 3]
    assert {type(content) for *_, content in again.crossed} == {what_leaves.Over}
