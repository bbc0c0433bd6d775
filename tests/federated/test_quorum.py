"""Rounds that go on without silos that are late: when they close, who is named, what a silo finds that is back."""

import pytest
import torch

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.managers import handlers, server
from fedclip_plugin.federated.managers.quorum import Quorum
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import parameters_of
from fedclip_plugin.runs.closing_table import round_text, silent_note, summary_rows, table_cells
from fedclip_plugin.runs.silo_scores import image_counts, zero_shot_scores
from tests.support.in_process_federation import SILOS, Federation
from tests.support.workshop import results

pytestmark = pytest.mark.usefixtures("fresh_fedml")

GRACE = 5.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def wait(clock, look, seconds):
    """Let time pass in small steps, after each of which somebody looks."""
    for _ in range(round(2 * seconds)):
        clock.now += 0.5
        look()


def test_without_a_grace_a_round_waits_for_all_that_train_and_nobody_is_behind():
    quorum = Quorum(None, 1)
    for silo in (0, 1, 2):
        quorum.sent(silo, counts=silo < 2)
    quorum.answered(0)
    assert not quorum.is_over()
    quorum.answered(1)
    assert quorum.is_over()
    assert quorum.close() == quorum.behind == set()


def test_enough_answers_and_the_grace_close_a_round():
    clock = Clock()
    quorum = Quorum(GRACE, 2, clock)
    for silo in range(4):
        quorum.sent(silo, counts=silo < 3)
    quorum.answered(0)
    quorum.answered(3)  # only evaluates
    clock.now = 100.0
    assert not quorum.is_over(), "one update is not enough, however long it takes"
    quorum.answered(1)
    wait(clock, quorum.is_over, GRACE - 0.5)
    assert not quorum.is_over()
    wait(clock, quorum.is_over, 0.5)
    assert quorum.is_over()
    assert quorum.close() == quorum.behind == {2}


def test_a_round_that_everybody_has_answered_is_over_at_once():
    quorum = Quorum(GRACE, 2, Clock())
    for silo in range(3):
        quorum.sent(silo, counts=True)
        quorum.answered(silo)
    assert quorum.is_over()
    assert quorum.close() == set()


def test_who_comes_back_in_a_round_has_taken_no_part_in_it():
    quorum = Quorum(GRACE, 1, clock := Clock())
    quorum.sent(0, counts=True)
    quorum.sent(1, counts=True)
    quorum.answered(0)
    wait(clock, quorum.is_over, GRACE)
    assert quorum.is_over()
    assert quorum.close() == {1}
    quorum.sent(0, counts=True)
    quorum.back(1, joins=False)
    quorum.answered(0)
    assert quorum.is_over(), "it is waited for from the next round on"
    assert quorum.close() == {1}
    assert quorum.behind == set()


def test_time_in_which_the_server_stood_still_is_nobodys():
    quorum = Quorum(GRACE, 1, clock := Clock())
    quorum.sent(0, counts=True)
    quorum.sent(1, counts=True)
    quorum.answered(0)
    assert not quorum.is_over()
    clock.now += 100.0
    assert not quorum.is_over()
    quorum.answered(1)
    assert quorum.close() == set()


def test_what_cannot_be_used_is_not_enough():
    quorum = Quorum(GRACE, 2, clock := Clock())
    for silo in range(3):
        quorum.sent(silo, counts=True)
    quorum.answered(0)
    quorum.answered(1, usable=False)
    wait(clock, quorum.is_over, 10 * GRACE)
    assert not quorum.is_over(), "the third one may still come"
    quorum.answered(2)
    assert quorum.is_over()


class Late:
    """A federation with a clock of its own, some of whose silos are silent."""

    def __init__(self, folder, **changes):
        self.run = Federation(folder, round_grace=GRACE, **{"fewest_silos": 2, "min_silos": 2} | changes)
        self.clock = self.run.server._quorum._clock = Clock()

    @property
    def lines(self):
        return self.run.lines

    def deliver(self, *silent, seed=None, until=lambda: False):
        """Deliver every message but those of silent ranks, and let a grace pass where nothing else is left."""
        with torch_threads(1):
            while not until():
                pairs = [pair for pair in self.run.wire.pairs() if pair[0] not in silent]
                if pairs:
                    self.run.wire.deliver(pairs[seed % len(pairs) if seed else 0])
                elif self.clock.now >= 1000:
                    return self
                else:
                    wait(self.clock, self.run.server.look, GRACE)
        return self

    def in_round(self, number):
        """Return whether that round is going on, as a function."""
        return lambda: self.run.server.args.round_idx == number - 1


def sleeping(folder, seed=None, **changes):
    """Photo is silent in the second of four rounds, and its answer comes when the third has begun."""
    late = Late(folder, **changes)
    late.deliver(seed=seed, until=late.in_round(2))
    late.deliver(3, seed=seed, until=late.in_round(3))
    late.run.wire.deliver((3, 0))
    return late.deliver(seed=seed)


@pytest.fixture
def slept(tmp_path):
    return sleeping(tmp_path / "slept")


def test_who_is_late_is_left_out_named_and_back(slept):
    assert [line.round for line in slept.lines] == [0, 1, 2, 3, 4]
    assert [line.late for line in slept.lines] == [(), (), ("photo",), (), ()]
    assert [line.answered for line in slept.lines[1:]] == [SILOS, SILOS[:2], SILOS, SILOS]
    assert [line.silent for line in slept.lines] == [(), ("photo",), (), (), ()]
    assert slept.run.wire.over == {0, 1, 2, 3}
    assert "2 of 3 silos" in round_text(slept.lines[2], 4, 3)
    assert "late: photo" in round_text(slept.lines[2], 4, 3)


def test_means_are_over_who_reported(slept):
    line = slept.lines[1]
    assert line.silos["photo"].test is None
    assert line.test == pytest.approx(sum(line.silos[name].test for name in SILOS[:2]) / 2)
    assert slept.lines[2].silos["photo"].train_loss is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_answers_give_equal_bytes(slept, tmp_path, seed):
    other = sleeping(tmp_path / "other", seed=seed)
    assert results(other.lines) == results(slept.lines)
    for name in ("final", "best"):
        file = f"adapters/{name}/adapter.safetensors"
        assert (other.run.folder.path / file).read_bytes() == (slept.run.folder.path / file).read_bytes()


def test_the_late_update_changes_nothing(slept, tmp_path):
    """A run in which the silo does not wake up has the same adapter of round 2."""
    gone = Late(tmp_path / "gone")
    gone.deliver(until=gone.in_round(2))
    gone.deliver(3)
    ours, others = (late.run.folder.load_round(2).tensors for late in (slept, gone))
    assert all((ours[name] == others[name]).all() for name in ours)


def test_a_job_ends_without_a_silo_that_never_answers(tmp_path):
    gone = Late(tmp_path / "gone")
    gone.deliver(until=gone.in_round(2))
    gone.deliver(3)
    assert gone.run.server.missing == (3,)
    assert gone.run.wire.over == {0, 1, 2}
    assert [line.round for line in gone.lines] == [0, 1, 2, 3, 4]
    assert gone.run.folder.load_round(4).round == 4
    rows = summary_rows(gone.lines, "FedCLIP")
    assert silent_note(rows).startswith("not always there (-): photo;")
    assert table_cells(rows, None)[2][3] == "-"


@pytest.mark.parametrize("codec", ["int8", "fp16"])
def test_a_silo_that_is_back_has_the_servers_adapter_whatever_the_codec(tmp_path, codec):
    slept = sleeping(tmp_path / "run", codec=codec)
    held = parameters_of(slept.run.server._aggregator.model)
    for silo in slept.run.silos:
        own = parameters_of(silo._driver.silo_trainer.model)
        assert all(torch.equal(own[name], held[name]) for name in held)


def test_what_was_sent_stays_as_it_was(tmp_path):
    """A frozen silo takes its adapter much later: it must find that round's."""
    late = Late(tmp_path / "run")
    sent = []
    pristine = late.run.server.com_manager.send_message

    def note(message):
        tensors = message.get("model_params")
        if tensors is not None:
            sent.append((tensors, {name: tensor.clone() for name, tensor in tensors.items()}))
        pristine(message)

    late.run.server.com_manager.send_message = note
    late.deliver()
    assert len(sent) == 15
    assert all(torch.equal(tensors[name], copy) for tensors, copies in sent for name, copy in copies.items())


def test_a_round_that_lacks_answers_takes_in_who_is_back(tmp_path):
    late = Late(tmp_path / "run")
    late.deliver(until=late.in_round(2))
    late.deliver(3, until=late.in_round(3))
    late.clock.now = 1000.0
    late.deliver(2, 3)  # cartoon is silent too: one update is not enough, however long it takes
    assert late.in_round(3)()
    assert "cartoon" in late.run.server._watchdog._deadlines, "somebody is waited for, or the job would hang"
    late.clock.now = 0.0
    late.deliver(2, until=late.in_round(4))
    late.deliver()
    assert late.lines[3].answered == ("art", "photo")
    assert late.lines[3].late == ("cartoon",)
    assert late.lines[4].late == ()


def test_a_round_that_is_short_from_the_start_waits_for_who_is_behind(tmp_path):
    """Photo may train no more, as its images' privacy is spent, when cartoon is behind."""
    late = Late(tmp_path / "run")
    late.deliver(until=late.in_round(2))
    late.deliver(2, until=lambda: late.run.server._quorum.reached)
    late.run.server._averager.spent.add(2)
    late.deliver(2, until=late.in_round(3))
    averager = late.run.server._averager
    assert averager.sampled == [0] and averager.short and not averager.ended
    assert "cartoon" in late.run.server._watchdog._deadlines
    late.clock.now = 1000.0
    late.deliver(2)
    assert late.in_round(3)()
    late.deliver()
    assert [line.answered for line in late.lines[3:]] == [("art", "cartoon")] * 2


@pytest.mark.parametrize(("least", "others"), [(2, {2}), (1, {0, 2})])
def test_a_round_is_not_closed_with_too_few_where_who_was_waited_for_may_train_no_more(
    tmp_path, monkeypatch, least, others
):
    """Cartoon comes back, and its images' privacy is spent too: then there are fewer than ``min_silos`` for good."""

    def end(comm, who, error, silent=()):
        raise FederationError(str(error))

    monkeypatch.setattr(server, "stop_job", end)
    monkeypatch.setattr(handlers, "stop_job", end)
    late = Late(tmp_path / "run", fewest_silos=least, min_silos=least)
    late.run.silos[1]._driver._spent = lambda: {"epsilon": 1.0, "spent": late.run.silos[1]._driver.round == 1}
    late.deliver(until=late.in_round(2))
    late.deliver(2, until=lambda: late.run.server._quorum.reached)
    late.run.server._averager.spent |= others
    late.deliver(2, until=late.in_round(3))
    assert late.run.server._averager.short
    with pytest.raises(FederationError, match=rf"and a round needs {least}: .* adapters/final is of round 2, the"):
        late.deliver()
    folder = late.run.folder
    assert [len(line.answered) for line in folder.rounds()] == [0, 3, 2], "round 3 has no adapter"
    assert (folder.adapters / "final").resolve() == folder.round_folder(2).resolve()


@pytest.mark.parametrize("phase", ["sums", "trials"])
def test_statistics_are_solved_without_who_is_late(tmp_path, phase):
    late, sums = Late(tmp_path / phase, method="ridge", comm_round=1), phase == "sums"
    late.deliver(until=lambda: late.run.server.is_initialized if sums else late.run.server._averager._tried)
    late.deliver(3)
    line = late.lines[1]
    assert line.late == ("photo",)
    assert line.answered == (SILOS[:2] if sums else SILOS)
    assert line.solved is not None
    assert late.run.server.missing == (3,)


def test_sums_that_come_late_are_no_answer_to_what_is_tried(tmp_path):
    """They come while the others try what was solved without them: their silo waits for the next adapter."""
    late = Late(tmp_path / "run", method="ridge", comm_round=1)
    late.deliver(until=lambda: late.run.server.is_initialized)
    late.deliver(3, until=lambda: late.run.server._averager._tried)
    late.run.wire.deliver((3, 0))
    late.deliver()
    assert late.lines[1].late == ("photo",)
    assert late.run.server.missing == ()
    assert set(late.lines[1].tests()) == set(SILOS)


def test_a_silo_that_sends_nonsense_is_not_one_of_those_that_are_enough(tmp_path, monkeypatch):
    """The third update is waited for, though two have come: one of them cannot be used."""
    late = Late(tmp_path / "run", comm_round=2)
    late.deliver(until=late.in_round(2))
    trained = FedClipTrainer.get_model_params

    def broken(self):
        tensors = trained(self)
        if self.silo == "art":
            next(iter(tensors.values())).fill_(float("nan"))
        return tensors

    monkeypatch.setattr(FedClipTrainer, "get_model_params", broken)
    late.clock.now = 900.0
    late.deliver(3)
    assert late.in_round(2)(), "photo is waited for"
    late.clock.now = 0.0
    late.deliver()
    assert list(late.lines[2].dropped) == ["art"]
    assert late.lines[2].late == ()


def test_a_late_silo_takes_no_zero_shot_scores_of_the_others(tmp_path):
    late = Late(tmp_path / "run", method="ridge", comm_round=1)
    late.deliver(until=lambda: late.run.server.is_initialized)
    late.deliver(3)
    assert [bool(silo.zero_shot) for silo in late.lines[0].silos.values()] == [True, True, False]


def test_columns_keep_the_order_of_the_silos():
    rows = [("a", {"art": 0.5, "photo": 0.5}, None), ("b", {"art": 0.5, "cartoon": 0.5, "photo": 0.5}, None)]
    assert table_cells(rows, None)[0] == ["accuracy in %", "art", "cartoon", "photo", "sources"]
    assert table_cells([rows[0], ("c", {"cartoon": 0.5, "photo": 0.5}, None)], None)[0][1:4] == [*rows[1][1]]


def test_zero_shot_scores_that_come_late_are_kept(tmp_path):
    late = Late(tmp_path / "run")
    late.deliver(until=lambda: late.run.server.is_initialized)
    late.deliver(3, until=late.in_round(2))
    late.deliver()
    assert late.lines[1].late == ("photo",)
    assert late.lines[0].silos["photo"].zero_shot == {}
    assert set(zero_shot_scores(late.lines, "test")) == set(SILOS)
    assert image_counts(late.lines, "test") == dict.fromkeys(SILOS, 10)


def test_a_silo_that_only_evaluates_may_be_late_too(tmp_path):
    late = Late(tmp_path / "run", silos_per_round=1, fewest_silos=1, min_silos=1, comm_round=2)
    trains = late.run.server._averager.sampled[0] + 1
    silent = next(rank for rank in (1, 2, 3) if rank != trains)
    late.deliver(until=lambda: late.run.server.is_initialized)
    late.deliver(silent, until=late.in_round(2))
    assert late.run.server._quorum.behind == {silent - 1}
    late.deliver()
    assert [line.round for line in late.lines] == [0, 1, 2]
    assert late.lines[0].silent == (SILOS[silent - 1],)
