"""The server believes what a silo says of itself and its round as far as it can be; what cannot be ends the job."""

import copy
import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.message_define import MyMessage

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.messages.added_fields import REPORT, ROUND, SiloReport
from fedclip_plugin.federated.messages.expected_answers import ExpectedAnswers
from fedclip_plugin.federated.roles.task import Score
from tests.support.in_process_federation import SILOS, Federation

NAN = float("nan")
SAMPLES = MyMessage.MSG_ARG_KEY_NUM_SAMPLES
TEN = {part: Score(5, 10) for part in ("validation", "test")}

pytestmark = pytest.mark.usefixtures("fresh_fedml")


@pytest.fixture
def ended(monkeypatch):
    """Let the end of the job raise SystemExit."""

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(stop.os, "_exit", leave)


def to_first_answer(folder, **changes):
    """Run until an answer of the silo art to the first adapter waits at the server, and take it out."""
    run = Federation(folder, **changes)
    run.wire.Abort = lambda code: None
    while not (run.server.is_initialized and (1, 0) in run.wire.pairs()):
        run.wire.deliver(run.wire.pairs()[0])
    while (message := run.wire.message((1, 0))).get(REPORT) is None:
        run.wire.deliver((1, 0))
    run.wire.pop((1, 0))
    return run, message


def expecting(images=({"train": 20, "validation": 10, "test": 10},) * 3):
    """Return what silos owe when all are there and art has the first adapter, of a run of four rounds."""
    expected = ExpectedAnswers({1: "silo art (rank 1)"}, SILOS, images, 4)
    for _ in range(2):
        assert expected.take(status("ONLINE")) is None
    expected.adapter_sent(1, 0, train=True)
    return expected


def status(word):
    made = Message(5, 1, 0)
    made.add_params(MyMessage.MSG_ARG_KEY_CLIENT_STATUS, word)
    return made


def answer(rank, number, train=True):
    """Return what a silo says of the adapter after ``number`` rounds: an update, a report, or that it leaves."""
    made = status("FINISHED") if number == 4 else Message(3 if train else 4, rank, 0)
    if train and number < 4:
        made.add_params(ROUND, number)
    zero_shot = {} if number else TEN
    made.add_params(REPORT, SiloReport(SILOS[rank - 1], number, Score(6, 10), Score(7, 10), zero_shot, train_loss=1.0))
    return made


def said(**changes):
    """Return a deed: the silo's report says something else."""
    return lambda message: message.add_params(REPORT, replace(message.get(REPORT), **changes))


def given(**changes):
    """Return a deed: the message has other parameters."""
    return lambda message: [message.add_params(key, value) for key, value in changes.items()]


FALSE = [
    ("reports silo = photo: must be art", said(silo="photo")),
    ("reports silo = 7: must be art", said(silo=7)),
    (r"reports silo = x\nfedclip: all is well\x1b[2J: must be art", said(silo="x\nfedclip: all is well\x1b[2J")),
    ("reports round = 7: must be 0", said(round=7)),
    ("reports round = -1: must be 0", said(round=-1)),
    ("reports round = False: must be 0", said(round=False)),
    ("reports validation = None: must be a Score", said(validation=None)),
    ("reports validation = a dict: must be a Score", said(validation={"correct": 1, "count": 1})),
    ("reports validation.correct = 11: must be a number of images, at most the 10", said(validation=Score(11, 10))),
    ("reports validation.correct = -1: must be", said(validation=Score(-1, 10))),
    ("reports validation.correct = nan: must be", said(validation=Score(NAN, 10))),
    ("reports test.correct = True: must be", said(test=Score(True, 10))),
    ("reports test.count = 9: must be 10, by the images of the start", said(test=Score(5, 9))),
    ("reports test.count = True: must be", said(test=Score(1, True))),
    ("reports test.count = -10: must be", said(test=Score(-11, -10))),
    ("reports test.count = a number of 20,001 bits: must be", said(test=Score(0, 2**20_000))),
    ("reports test.count = nan: must be", said(test=Score(0, NAN))),
    ("reports the splits of zero_shot = : must be validation and test", said(zero_shot={})),
    ("reports the splits of zero_shot = test: must be validation and test", said(zero_shot={"test": Score(5, 10)})),
    ("reports zero_shot = a list: must be scores by split", said(zero_shot=[])),
    ("reports zero_shot.test.count = 20: must be 10", said(zero_shot=TEN | {"test": Score(5, 20)})),
    ("reports personal = a dict: must be empty but in the report on the last adapter", said(personal=TEN)),
    ("reports train_loss = low: must be a float32 number or none", said(train_loss="low")),
    ("reports train_loss = 1e+308: must be a float32 number", said(train_loss=1e308)),
    ("reports train_seconds = nan: must be a time", said(train_seconds=NAN)),
    ("reports train_seconds = -1.0: must be a time", said(train_seconds=-1.0)),
    ("reports evaluate_seconds = inf: must be a time", said(evaluate_seconds=math.inf)),
    ("reports evaluate_seconds = None: must be a time", said(evaluate_seconds=None)),
    ("reports something = None: must be a SiloReport", given(**{REPORT: None})),
    ("reports something = a dict: must be a SiloReport", given(**{REPORT: {"silo": "art"}})),
    ("reports the round of its update = 7: must be 0", given(**{ROUND: 7})),
    ("reports the round of its update = a Tensor: must be 0", given(**{ROUND: torch.ones(2)})),
    ("sent a report out of turn: an update on round 0's adapter was due", given(msg_type=4)),
    ("sent the status FINISHED out of turn: an update", given(msg_type=5, client_status="FINISHED")),
    ("sent the status BANANA out of turn: an update", given(msg_type=5, client_status="BANANA")),
    ("sent a message of type 99 out of turn: an update", given(msg_type=99)),
    ("sent a message of type 0 out of turn: an update", given(msg_type=0)),
]


@pytest.mark.parametrize(("told", "deed"), FALSE, ids=[told for told, _ in FALSE])
def test_a_false_answer_is_refused_with_silo_field_value_and_rule(told, deed):
    message = answer(1, 0)
    deed(message)
    with pytest.raises(FederationError) as refused:
        expecting().take(message)
    assert str(refused.value).startswith("silo art (rank 1) ")
    assert told in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "deed", [said(), said(train_loss=NAN), said(train_loss=math.inf), said(train_loss=None), said(train_loss=-0.5)]
)
def test_a_report_that_can_be_true_is_believed(deed):
    message = answer(1, 0)
    deed(message)
    assert expecting().take(message) is message.get(REPORT)


def test_counts_must_stay_within_reason_where_images_are_not_known():
    expected = expecting(images=())
    message = answer(1, 0)
    said(test=Score(5, 7), zero_shot={})(message)
    assert expected.take(message).test.count == 7
    expected.adapter_sent(1, 1, train=True)
    message = answer(1, 1)
    said(test=Score(0, 2**20_000))(message)
    with pytest.raises(FederationError, match=r"test.count = a number of 20,001 bits: must be a number of images"):
        expected.take(message)


def test_a_false_report_ends_the_job_and_nothing_of_it_is_in_the_metrics(tmp_path, ended, capfd):
    run, message = to_first_answer(tmp_path)
    said(validation=Score(11, 10))(message)
    with pytest.raises(SystemExit):
        run.server.receive_message(message.get_type(), message)
    assert capfd.readouterr().err == (
        "fedclip: the job stops: server (rank 0), round 1: silo art (rank 1) reports validation.correct = 11: "
        "must be a number of images, at most the 10 that there are\n"
    )
    assert run.lines == []


def test_an_answer_that_is_sent_twice_ends_the_job(tmp_path, ended, capfd):
    run, message = to_first_answer(tmp_path)
    again = copy.copy(message)
    run.server.receive_message(message.get_type(), message)
    with pytest.raises(SystemExit):
        run.server.receive_message(again.get_type(), again)
    assert "silo art (rank 1) sent an update out of turn: nothing was due" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "deed", "told"),
    [
        (1, said(zero_shot=TEN), "zero_shot = a dict: must be empty but in the first report"),
        (1, said(round=0), "round = 0: must be 1, whose adapter it was sent"),
        (1, said(round=2), "round = 2: must be 1, whose adapter it was sent"),
        (4, said(zero_shot=TEN), "zero_shot = a dict: must be empty but in the first report"),
        (4, said(personal={"test": Score(5, 10)}), "the splits of personal = test: must be validation and test"),
        (4, said(personal=TEN | {"test": Score(11, 10)}), "personal.test.correct = 11: must be a number of images"),
    ],
)
def test_later_answers_are_looked_at_as_well(number, deed, told):
    expected, message = expecting(), answer(1, number)
    expected.take(answer(1, 0))
    expected.adapter_sent(1, number, train=True)
    deed(message)
    with pytest.raises(FederationError, match=f"silo art .rank 1. reports {told}"):
        expected.take(message)


def test_silos_that_are_not_drawn_or_leave_answer_in_their_own_way():
    expected = expecting()
    expected.take(answer(1, 0))
    for number, train in ((1, False), (2, True), (4, False)):
        expected.adapter_sent(1, number, train)
    for number, train in ((1, False), (2, True), (4, False)):  # late, but in order
        assert expected.take(answer(1, number, train)).round == number


def test_a_training_that_diverged_is_no_false_report(tmp_path):
    run, message = to_first_answer(tmp_path)
    said(train_loss=NAN)(message)
    run.server.receive_message(message.get_type(), message)
    run.run()
    assert [line.round for line in run.lines] == [0, 1, 2, 3, 4]
    assert run.lines[1].silos["art"].train_loss is None
    refuse = partial(pytest.fail, "a line is not strict JSON")
    for line in run.folder.metrics.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: refuse())


def test_an_update_with_other_images_than_at_the_start_is_dropped_and_the_round_goes_on(tmp_path):
    run, message = to_first_answer(tmp_path, min_silos=2)
    message.add_params(SAMPLES, 10**6)
    run.server.receive_message(message.get_type(), message)
    run.run()
    assert run.lines[1].dropped == {"art": "1000000 training images instead of the 20 of the start"}
    assert [line.dropped for line in run.lines[2:]] == [{}, {}, {}]


def test_a_message_of_a_silo_that_nobody_takes_is_named(tmp_path, ended, capfd):
    run = Federation(tmp_path)
    run.wire.Abort = lambda code: None
    with pytest.raises(SystemExit):
        run.silos[1].receive_message(77, Message(77, 0, 2))
    assert "silo cartoon (rank 2), round 1: the server sent a message of type 77" in capfd.readouterr().err


def test_who_has_answered_is_not_accused_while_the_server_cannot_look(tmp_path):
    run = Federation(tmp_path)
    run.run(until=lambda: run.server.is_initialized and {(1, 0), (3, 0)} <= set(run.wire.pairs()), held=(2,))
    assert set(run.server._watchdog._deadlines) == set(SILOS)
    while run.server.args.round_idx == 0:
        for rank in (1, 3):
            while (rank, 0) in run.wire.pairs():
                run.server._heard(rank)
                run.wire.pop((rank, 0))
        for pair in [pair for pair in run.wire.pairs() if pair[1] in (1, 3)]:
            run.wire.deliver(pair)
        if not [pair for pair in run.wire.pairs() if pair[0] != 2 and pair[1] != 2]:
            break
    assert set(run.server._watchdog._deadlines) == {"cartoon"}


@pytest.mark.parametrize(
    ("again", "change", "told"),
    [
        (True, {}, "the first adapter, of round 0, out of turn: must be a later one, of a round from 1 to 4"),
        (False, {"number": 2}, "a later adapter, of round 0, out of turn: must be the first one, of a round from 0 to"),
        (
            False,
            {ROUND: 5},
            "the first adapter, of round 5, out of turn: must be the first one, of a round from 0 to 4",
        ),
        (False, {ROUND: -1}, "the first adapter, of round -1, out of turn"),
    ],
)
def test_a_silo_takes_the_servers_adapters_in_their_turn(tmp_path, ended, capfd, again, change, told):
    run = Federation(tmp_path)
    run.wire.Abort = lambda code: None
    run.run(until=lambda: run.server.is_initialized and run.wire.message((0, 1)).get(ROUND) == 0)
    message = run.wire.message((0, 1))
    if again:
        run.wire.deliver((0, 1))
    for key, value in change.items():
        message.add_params("msg_type" if key == "number" else key, value)
    with pytest.raises(SystemExit):
        run.silos[0].receive_message(message.get_type(), message)
    assert f"silo art (rank 1), round 1: the server sent {told}" in capfd.readouterr().err


def test_a_silo_trains_no_round_twice(tmp_path, ended, capfd):
    run = Federation(tmp_path)
    run.wire.Abort = lambda code: None
    run.run(until=lambda: run.silos[0]._driver.round == 1)
    again = run.silos[0]._driver.round
    run.run(until=lambda: (0, 1) in run.wire.pairs())
    message = run.wire.message((0, 1))
    message.add_params(ROUND, again)
    with pytest.raises(SystemExit):
        run.silos[0].receive_message(message.get_type(), message)
    assert f"a later adapter, of round {again}, out of turn: must be a later one, of a round from 2 to 4" in (
        capfd.readouterr().err
    )
