"""Silos that are left out of a job: the others' bytes are those of a run in which nothing of theirs ever counted."""

import shutil

import pytest
import torch

from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated.members import Members, last_part
from fedclip_plugin.recipe import load_recipe
from tests.support.round_records import round_line, round_record
from tests.support.workshop import TWO_SILOS

ENOUGH = {"fedclip_args__min_silos": 2}
GONE = "cartoon"


@pytest.fixture(scope="module")
def lossy(workshop):
    return workshop.recipe("lossy", fedclip_args__codec="int8", fedclip_args__server_optimizer="sgd", **ENOUGH)


@pytest.fixture
def useless(monkeypatch, fedml_of_the_session):
    """Return a function that lets a silo's updates of some rounds, from 1, be dropped by the server."""
    from fedclip_plugin.federated.roles.trainer import FedClipTrainer

    def spoil(rounds):
        original = FedClipTrainer.get_model_params

        def params(self):
            found = original(self)
            if self.silo == GONE and self.args.round_idx + 1 in rounds:
                found = type(found)((name, torch.full_like(own, torch.nan)) for name, own in found.items())
            return found

        monkeypatch.setattr(FedClipTrainer, "get_model_params", params)

    return spoil


def test_ranks_count_those_that_are_there_and_files_go_by_all():
    members = Members(4, {1: "b"})
    assert [members.index(rank) for rank in (1, 2, 3)] == [0, 2, 3]
    assert [members.number(rank) for rank in range(4)] == [0, 1, 3, 4]
    assert members.places([0, 1, 3]) == [0, 2]
    assert members.of_those_there("abcd") == ("a", "c", "d")
    assert members.of_all("acd") == ("a", "b", "c", "d")
    assert members.told() == "without b: rounds are made by the other 3 of 4 silos"


@pytest.mark.parametrize(
    ("changes", "without", "told"),
    [
        ({}, ["photo"], r"set fedclip_args\.min_silos"),
        (ENOUGH, ["catoon"], r"--without catoon: no silo has this name \(did you mean 'cartoon'\?\); there are art"),
        (ENOUGH, ["sketch"], "no silo has this name"),
        (ENOUGH, ["photo", "cartoon"], r"--without cartoon, photo leaves 1 of 3 silos, and a round needs 2"),
        (ENOUGH, ["photo", "cartoon", "art_painting"], "leaves 0 of 3 silos"),
        ({"common_args__training_type": "simulation"}, ["photo"], "a simulation has none"),
    ],
)
def test_what_cannot_be_left_out_is_refused(workshop, changes, without, told):
    recipe = load_recipe(workshop.recipe("refused", **changes))
    with pytest.raises(FedClipError, match=told):
        Members.of(recipe, without)


def test_names_that_only_folders_tell_are_read_there(workshop, own_images, tmp_path):
    own = {"data_args__dataset": "own", "fedclip_args__domains": None, "fedclip_args__images_per_class": None}
    own |= {"fedclip_args__target_domain": None}
    here, gone = own_images("named", 6), tmp_path / "nowhere"
    recipe = load_recipe(workshop.recipe("named", **own, **ENOUGH, fedclip_args__data_root=str(here)))
    assert Members.of(recipe, ["silo_b"]) == Members(3, {1: "silo_b"})
    recipe = load_recipe(workshop.recipe("unnamed", **own, **ENOUGH, fedclip_args__data_root=str(gone)))
    with pytest.raises(DataError, match="nowhere"):
        Members.of(recipe, ["silo_b"])


def test_a_silo_took_part_until_it_was_left_out():
    silo = round_line(0)["silos"]["north"]
    records = [round_record(number, silos={"north": silo, "south": silo}) for number in range(4)]
    name = list(records[0].silos)[1]
    assert last_part(records, 1) == 3
    left = [record.model_copy(update={"without": (name,)} if record.round > 1 else {}) for record in records]
    assert (last_part(left, 0), last_part(left, 1)) == (3, 1)
    assert last_part([record.model_copy(update={"without": (name,)}) for record in records], 1) == 0
    assert last_part([], 1) == 0


def test_a_silo_that_was_late_in_every_round_has_nothing_to_go_on_with():
    silo = round_line(0)["silos"]["north"]
    records = [round_record(number, silos={"north": silo, "south": silo}) for number in range(4)]
    name = list(records[0].silos)[1]
    late = [record.model_copy(update={"late": (name,)} if record.round else {}) for record in records]
    assert (last_part(late, 0), last_part(late, 1)) == (3, 0)
    mixed = [*late[:2], *(record.model_copy(update={"late": (), "without": (name,)}) for record in late[2:])]
    assert last_part(mixed, 1) == 0
    assert last_part([*late[:3], records[3]], 1) == 3, "it was there in the end"


def test_secure_sums_go_on_with_the_same_silos_only(workshop):
    sums = {"fedclip_args__secure_sums": True, "fedclip_args__min_silos": 3}
    recipe = load_recipe(workshop.recipe("sums", **sums))
    with pytest.raises(FedClipError, match="leaves 2 of 3 silos, and secure_sums need 3: wait for those that are gone"):
        Members.of(recipe, [GONE])
    records = [round_record(0), round_record(1)]
    Members.of(recipe).require_same_sums(recipe, records)
    Members(3, {1: GONE}).require_same_sums(recipe, records[:1])
    with pytest.raises(FedClipError, match="made without nobody, and is to go on without cartoon: with secure_sums"):
        Members(3, {1: GONE}).require_same_sums(recipe, records)
    trusting = load_recipe(workshop.recipe("trusting", **sums, fedclip_args__on_missing="redo"))
    Members(3, {1: GONE}).require_same_sums(trusting, records)


def test_a_rank_is_told_by_the_name_of_its_silo(workshop):
    recipe = load_recipe(workshop.recipe("told", **ENOUGH))
    assert Members.of(recipe, ["art_painting"]).who(recipe, 2) == "photo (rank 2)"
    assert Members.of(recipe).who(recipe, 0) == "rank 0"


def test_a_run_without_a_silo_has_the_bytes_of_one_in_which_it_never_counted(workshop, lossy, useless):
    left = workshop.run_here(lossy, workshop.place / "runs" / "left", without=[GONE])
    useless(range(1, 9))
    never = workshop.run_here(lossy, workshop.place / "runs" / "never")
    assert left.adapter_bytes("final") == never.adapter_bytes("final")
    assert all(line.dropped == {GONE: line.dropped[GONE]} for line in never.lines[1:])
    assert f"without {GONE}: rounds are made by the other 2 of 3 silos" in left.out
    assert "2 of 3 silos" in left.rounds[-1]
    for line, other in zip(left.lines, never.lines, strict=True):
        assert line.without == line.silent == (GONE,) and list(line.silos) == ["art_painting", GONE, "photo"]
        assert line.silos[GONE].test is None and line.silos["photo"].test == other.silos["photo"].test
        assert line.test == pytest.approx((line.silos["photo"].test + line.silos["art_painting"].test) / 2)
        assert line.answered == (("art_painting", "photo") if line.round else ())
    assert GONE not in left.out.partition("\n\n")[2], "the closing table has no column for it"


def test_a_silo_that_comes_back_goes_on_from_what_it_had(workshop, lossy, useless):
    run = workshop.place / "runs" / "back"
    first = workshop.run_here(lossy, run, train_args__comm_round=1)
    kept, other = (first.folder.personal(name) / "state" for name in (GONE, "photo"))
    shutil.copytree(other / "round_0001", kept / "round_0002")  # the job was ended with an update on its way
    workshop.run_here(lossy, run, resume=True, without=[GONE], train_args__comm_round=2)
    back = workshop.run_here(lossy, run, resume=True, train_args__comm_round=3)
    assert [line.without for line in back.lines] == [(), (), (GONE,), ()]
    useless([2])
    once = workshop.run_here(lossy, workshop.place / "runs" / "once")
    assert back.adapter_bytes("final") == once.adapter_bytes("final")
    assert (kept / "round_0003" / "state.safetensors").read_bytes() == (
        once.folder.personal(GONE) / "state" / "round_0003" / "state.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("since", [0, 1])
def test_an_adapter_of_its_own_is_what_it_was_when_a_silo_comes_back(
    since, workshop, monkeypatch, fedml_of_the_session
):
    recipe = workshop.recipe("alone", fedclip_args__federation="local", **TWO_SILOS, fedclip_args__min_silos=1)
    run = workshop.place / "runs" / f"alone_{since}"
    if since:
        workshop.run_here(recipe, run, train_args__comm_round=since)
    workshop.run_here(recipe, run, resume=bool(since), without=[GONE], train_args__comm_round=2)
    back = workshop.run_here(recipe, run, resume=True, train_args__comm_round=3)
    assert [line.silos[GONE].test is None for line in back.lines] == [since == 0, since == 0, True, False]

    from fedclip_plugin.federated.roles.trainer import FedClipTrainer

    original = FedClipTrainer.train

    def idle(self, data, device, args):
        if self.silo != GONE or args.round_idx + 1 in (since, 3):
            original(self, data, device, args)

    monkeypatch.setattr(FedClipTrainer, "train", idle)
    other = workshop.run_here(recipe, workshop.place / "runs" / f"idle_{since}")
    own, as_idle = (
        outcome.folder.personal(GONE).joinpath("adapter", "adapter.safetensors").read_bytes()
        for outcome in (back, other)
    )
    assert own == as_idle
