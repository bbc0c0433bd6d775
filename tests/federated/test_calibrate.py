"""After the last round the best and the last adapter are calibrated on sums, here and over MPI alike."""

import dataclasses
import json

import numpy as np
import pytest

from fedclip_edge.calibration import calibration_of, confidences
from fedclip_plugin import what_leaves
from fedclip_plugin.errors import FederationError, RunFolderError
from fedclip_plugin.federated import after_training
from fedclip_plugin.federated.messages.closing_messages import (
    ConfidenceCounts,
    CountConfidences,
    Likelihoods,
    NoMoreQuestions,
    ScoreAdapter,
)
from fedclip_plugin.federated.roles.calibrator import calibrate_run
from fedclip_plugin.runs import load_adapter
from tests.support.in_process_federation import SILOS, Federation, silo_features
from tests.support.mpi_world import World

RATE = 0.2
"""Of three silos with ten validation images each."""

pytestmark = pytest.mark.usefixtures("fresh_fedml")


@pytest.fixture
def trained(tmp_path):
    """Return a function that trains a federation and returns it with its target."""

    def train(name="run", **changes):
        target = silo_features(7).test
        return Federation(tmp_path / name, target=target, **{"false_reject_rate": RATE} | changes).run(), target

    return train


def calibrators(federation):
    drivers = [silo._driver for silo in federation.silos]
    return [after_training.silo_calibrator(driver.silo_trainer, driver.splits) for driver in drivers]


def calibrated(federation, target):
    said = []
    after_training.ask_here(
        [own.act for own in calibrators(federation)], federation.server._aggregator, target, said.append
    )
    return federation.folder.read_calibration(), said


def pooled(federation, number, part):
    """Return logits and labels of all silos' images together, by the adapter of a round."""
    task, found = federation.server._aggregator.task, []
    for own in calibrators(federation):
        own.act(ScoreAdapter(federation.folder.load_round(number).tensors))
        found.append(own._seen[part])
    assert len(task.classes) == found[0].logits.shape[1]
    return np.concatenate([own.logits for own in found]), np.concatenate([own.labels for own in found])


def test_sums_give_what_all_images_together_would(trained):
    federation, target = trained()
    record, said = calibrated(federation, target)
    assert said == []
    last = federation.folder.rounds()[-1]
    assert [own.round for own in record.adapters] == list(dict.fromkeys((last.best_round, last.round)))
    for own in record.adapters:
        assert own.calibration == calibration_of(*pooled(federation, own.round, "validation"), RATE)
        logits, labels = pooled(federation, own.round, "test")
        confidence = confidences(logits, own.temperature)
        assert own.sources.images == len(labels) == 30
        assert own.sources.unknown == (confidence < own.threshold).mean()
        assert sum(own.sources.after.confidence) == pytest.approx(confidence.sum(), abs=1e-4)
        assert sum(own.sources.after.right) == (logits.argmax(1) == labels).sum()
        assert own.target.images == 10
    saved = load_adapter(federation.folder.adapters / "best")
    assert saved.calibration == record.adapters[0].calibration
    assert saved.answer_scale == saved.logit_scale / saved.calibration.temperature


def test_only_best_and_last_are_calibrated_and_what_was_before_is_gone(trained):
    federation, target = trained()
    calibrated(federation, target)
    places = {path.name: load_adapter(path) for path in federation.folder.adapters.iterdir() if not path.is_symlink()}
    last = federation.folder.rounds()[-1]
    wanted = {f"round_{number:04d}" for number in (last.best_round, last.round)}
    assert {name for name, saved in places.items() if saved.calibration} == wanted
    federation.folder.calibrate(None)
    assert not federation.folder.calibration.exists()
    assert all(load_adapter(path).calibration is None for path in federation.folder.adapters.iterdir())


def test_over_mpi_it_is_the_same_and_nothing_else_crosses(trained):
    one, target = trained("here")
    other, _ = trained("over")
    here, _ = calibrated(one, target)
    world, parts, said = World(4), calibrators(other), []

    def act(comm):
        exchange = after_training.closing_exchange(comm, ("server", *SILOS), 10.0, other.server._aggregator.model)
        if comm.number:
            after_training.answer_over(exchange, parts[comm.number - 1].act)
        else:
            after_training.ask_over(exchange, 4, other.server._aggregator, target, said.append)

    assert world.together(act) == [None] * 4
    assert other.folder.read_calibration() == here
    crossed = {(bool(sender), type(content)) for sender, _, content in world.crossed}
    answers, questions = (Likelihoods, ConfidenceCounts), (ScoreAdapter, CountConfidences, NoMoreQuestions)
    assert crossed == {(True, kind) for kind in answers} | {(False, kind) for kind in questions}
    assert {*answers, *questions} <= {*what_leaves.CLOSING_FROM_SILO, *what_leaves.CLOSING_FROM_SERVER}


def test_too_few_images_are_said_and_nothing_is_calibrated(trained):
    federation, target = trained(false_reject_rate=0.05)
    record, said = calibrated(federation, target)
    assert record is None
    assert said == [
        "note: the adapters are not calibrated: 30 labelled images are too few to calibrate with: a false-reject rate "
        "of 5 % takes 40 or more, so that 2 of them are below the threshold, among all silos' validation images"
    ]
    assert load_adapter(federation.folder.adapters / "best").calibration is None


def test_a_recipe_may_switch_it_off(trained):
    federation, _ = trained(calibrate=False)
    assert not after_training.asks(federation.server._aggregator)
    local, _ = trained("local", averaged=False)
    assert not after_training.asks(local.server._aggregator), "there is no adapter of all silos"


SPOILT = {
    "images": lambda own: dataclasses.replace(own, images=-1),
    "losses": lambda own: dataclasses.replace(own, losses=own.losses[:-1]),
    "losses with NaN": lambda own: dataclasses.replace(own, losses=(float("nan"), *own.losses[1:])),
    "validation": lambda own: dataclasses.replace(own, validation=[1] * 440),
    "before.counts": lambda own: dataclasses.replace(own, before=dataclasses.replace(own.before, counts=())),
    "after": lambda own: dataclasses.replace(own, after=None),
    "when asked for": lambda own: None,
}


@pytest.mark.parametrize("name", SPOILT)
def test_an_answer_that_is_none_ends_it(trained, name):
    federation, _ = trained()
    parts = calibrators(federation)

    counts = name in ("validation", "before.counts", "after")

    def ask(question):
        found = [own.act(question) for own in parts]
        return [*found[:2], SPOILT[name](found[2])] if isinstance(question, CountConfidences) == counts else found

    with pytest.raises(FederationError, match=name.split()[0]):
        calibrate_run(federation.folder, ask, None, RATE)


def test_a_damaged_record_is_refused(trained):
    federation, target = trained()
    calibrated(federation, target)
    text = json.loads(federation.folder.calibration.read_text())
    text["adapters"][0]["temperature"] = -1
    federation.folder.calibration.write_text(json.dumps(text))
    with pytest.raises(RunFolderError, match=r"calibration\.json cannot be read: .*greater than 0.*restore the file"):
        federation.folder.read_calibration()
