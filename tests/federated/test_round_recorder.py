"""From reports to lines: complete rounds only, in order, and the first of the best."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fedclip_plugin.federated.managers.round_recorder import RoundRecorder, ServerReport
from fedclip_plugin.federated.messages.added_fields import SiloReport
from fedclip_plugin.federated.roles.task import Score
from fedclip_plugin.runs import RunFolder, SavedAdapter, load_adapter

SILOS = ("art", "photo")
SERVER = ServerReport(SILOS, bytes_up=1, bytes_down=2, seconds={"aggregate": 0.5})
LATER = replace(SERVER, target=0.7, wall_seconds=4.0)


def report(silo, number, right, loss=1.0):
    score = Score(right, 10)
    zero_shot = {} if number else {"test": Score(5, 10)}
    return SiloReport(silo, number, score, score, zero_shot, train_loss=loss, train_seconds=2.0, evaluate_seconds=0.25)


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.prepare("# digest: d\n", "d", 0, resume=False)
    for number in range(6):
        text, tensors = np.zeros((1, 2), np.float32), {"w": np.zeros(2, np.float32)}
        made.save_round(SavedAdapter("fedclip", 2, "c", "f", "fp32", 1.0, ("a",), "{}", number, "d", text, tensors))
    return made


def record(folder, validations, keep=3):
    lines = []
    recorder = RoundRecorder(folder, SILOS, keep, lines.append)
    for number, right in enumerate(validations):
        recorder.server(number, LATER)
        for silo in SILOS:
            recorder.report(report(silo, number, right))
    return lines


def test_a_round_is_complete_when_server_and_all_silos_have_spoken_in_any_order(folder):
    for order in itertools.permutations(["server", *SILOS]):
        folder.metrics.write_text("")
        lines = []
        recorder = RoundRecorder(folder, SILOS, 3, lines.append)
        for who in order:
            assert lines == []
            if who == "server":
                recorder.server(0, SERVER)
            else:
                recorder.report(report(who, 0, 6))
        assert [line.round for line in lines] == [0]
        assert lines[0].silos["art"].zero_shot == {"test": 0.5}
        assert folder.rounds() == lines


def test_a_loss_belongs_to_the_round_after_the_adapter_that_it_began_with(folder):
    lines = []
    recorder = RoundRecorder(folder, SILOS, 3, lines.append)
    recorder.server(0, SERVER)
    recorder.report(report("art", 0, 6, loss=3.0))
    recorder.report(report("photo", 0, 6, loss=None))
    recorder.server(1, replace(SERVER, wall_seconds=4.0))
    for silo in SILOS:
        recorder.report(report(silo, 1, 6, loss=2.0))
    assert lines[0].train_loss is None
    assert lines[1].silos["art"].train_loss == lines[1].train_loss == 3.0
    assert lines[1].silos["photo"].train_loss is None


def test_the_time_of_a_round_is_split_into_phases(folder):
    seconds = record(folder, [5, 6])[1].seconds
    assert seconds == {"train": 2.0, "evaluate": 0.25, "aggregate": 0.5, "exchange": 1.25, "round": 4.0}


def test_the_best_round_is_the_first_of_the_highest_and_never_the_untrained(folder):
    lines = record(folder, [9, 6, 8, 8, 7])
    assert [line.best_round for line in lines] == [0, 1, 2, 2, 2]
    assert (folder.adapters / "best").resolve() == folder.round_folder(2).resolve()


def test_rounds_are_compared_over_the_silos_that_told_both(folder):
    lines = []

    def tell(recorder, number, **right):
        recorder.server(number, LATER)
        for silo in SILOS:
            if silo in right:
                recorder.report(report(silo, number, right[silo]))
            else:
                recorder.excuse(number, [silo])

    recorder = RoundRecorder(folder, SILOS, 3, lines.append)
    tell(recorder, 0, art=5, photo=5)
    tell(recorder, 1, art=4, photo=8)
    tell(recorder, 2, photo=8)  # a mean of 0.8 where round 1 has 0.6, but no better for photo
    assert (lines[2].validation, lines[2].best_round, lines[2].silent) == (0.8, 1, ("art",))
    tell(recorder, 3, art=5)  # a mean of 0.5, and better for art
    assert lines[3].best_round == 3
    again = RoundRecorder(folder, SILOS, 3, lines.append)
    tell(again, 4, art=5, photo=9)
    assert lines[4].best_round == 3, "what is known of round 3 is art's 0.5"


def test_a_recorder_goes_on_where_the_lines_end(folder):
    record(folder, [9, 6, 8])
    lines = []
    recorder = RoundRecorder(folder, SILOS, 3, lines.append)
    for silo in SILOS:
        recorder.report(report(silo, 2, 8))
    assert lines == [], "round 2 has its line already"
    recorder.server(3, replace(SERVER, wall_seconds=4.0))
    for silo in SILOS:
        recorder.report(report(silo, 3, 7))
    assert [line.best_round for line in lines] == [2]
    assert [line.round for line in folder.rounds()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("averaged", "zero_shot", "carried"),
    [
        (True, 0.65, {"validation": 0.6, "zero_shot_validation": 0.65}),
        (True, None, {"validation": 0.6}),
        (False, 0.65, {}),
    ],
)
def test_the_best_adapter_carries_the_figure_that_chose_it(folder, averaged, zero_shot, carried):
    recorder = RoundRecorder(folder, SILOS, 3, lambda line: None, averaged)
    for number, right in enumerate((9, 4, 6, 5)):
        if number == 3:  # as a run that goes on
            recorder = RoundRecorder(folder, SILOS, 3, lambda line: None, averaged)
        recorder.server(number, LATER)
        for silo in SILOS:
            told = report(silo, number, right)
            if number == 0 and zero_shot:
                score = Score(round(zero_shot * 20), 20)
                told = replace(told, zero_shot={"validation": score, "test": score})
            recorder.report(told)
    assert load_adapter(folder.adapters / "best").round == 2
    assert load_adapter(folder.adapters / "best").metrics == pytest.approx(carried)
    assert load_adapter(folder.round_folder(3)).metrics == {}
    assert (load_adapter(folder.adapters / "best").warning is not None) == ("zero_shot_validation" in carried)


def test_the_last_adapter_carries_its_figure_too(folder):
    folder.mark_final(3)
    record(folder, [5, 6, 8, 7])
    assert load_adapter(folder.adapters / "final").metrics["validation"] == 0.7


@pytest.mark.parametrize("averaged", [True, False])
def test_the_best_adapter_carries_what_the_rounds_after_it_spent_too(folder, averaged):
    recorder = RoundRecorder(folder, SILOS, 3, lambda line: None, averaged)
    for number, right in enumerate((5, 8, 6, 7)):
        if number == 3:  # as a run that goes on
            recorder = RoundRecorder(folder, SILOS, 3, lambda line: None, averaged)
            for silo in SILOS:
                recorder.report(replace(report(silo, 2, 6), epsilon=3.0))
        recorder.server(number, replace(LATER, delta=1e-5))
        for silo in SILOS:
            recorder.report(replace(report(silo, number, right), epsilon=1.0 + number))
        best = load_adapter(folder.adapters / "best")
        told = [best.metrics.get(name) for name in ("epsilon", "delta")]
        assert told == ([float(number), 1e-5] if number and averaged else [None, None])
    assert best.round == 1
