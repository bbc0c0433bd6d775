"""Base-to-new classes: what is trained on, and what is scored after the last round, over MPI, here and simulated."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedclip_plugin import what_leaves
from fedclip_plugin.errors import DataError, FederationError, MethodError, RunFolderError
from fedclip_plugin.features import FeatureSet, TextFeatures
from fedclip_plugin.features.feature_set import PixelSet
from fedclip_plugin.federated import after_training
from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.federated.messages.closing_messages import NoMoreQuestions, ScoreClasses
from fedclip_plugin.federated.roles.class_scorer import ClassScorer, EveryClass, checked_counts, class_images
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.fitting import _Progress, fit
from fedclip_plugin.methods import METHODS, Adapter, ZeroShot, create_adapter
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.report.run.run_page import run_page
from fedclip_plugin.runs import RunFolder, load_adapter
from fedclip_plugin.runs.class_split_record import ClassAccuracy, ClassCounts
from fedclip_plugin.runs.closing_table import class_cells
from tests.support.in_process_federation import SILOS, WIDTH, Federation
from tests.support.mpi_world import World
from tests.support.noise_images import noise
from tests.support.workshop import clip_tiny, frozen_clip_tiny

NAMES, TEMPLATE = ("dog", "horse", "house", "person"), "a picture of a {}"
BASE_NEW = {"fedclip_args__class_split": "base_new"}
AT_ZERO_SHOT = [name for name in METHODS if name not in ("fedclip", "clip_adapter")]


def every_class(method):
    """All four classes of a run with clip-tiny, whose task has two."""
    text, own = frozen_clip_tiny(NAMES).text, frozen_clip_tiny(NAMES[:2])
    task = Task(method, "clip-tiny", "0", "fp32", NAMES[:2], TEMPLATE, own.text, "d")
    return EveryClass(task, NAMES, text, clip_tiny), own


def images(method, width):
    """Images of all classes as a method takes them: of base and of new classes."""
    generator, labels = torch.Generator().manual_seed(1), torch.arange(12) % 4
    if METHODS[method].on_pixels:
        pixels = torch.randint(256, (12, 3, 64, 64), generator=generator, dtype=torch.uint8)
        whole = PixelSet(pixels, labels, torch.arange(12))
    else:
        whole = FeatureSet(torch.randn(12, width, generator=generator), labels)
    return tuple(whole.subset(np.flatnonzero(own)) for own in (labels < 2, labels >= 2))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_for_classes_that_it_was_not_trained_on(method):
    every, own = every_class(method)
    base, new = images(method, own.feature_dim)
    counts = every.counter(create_adapter(method, own, 0))(base, new)
    assert (counts.base_images, counts.new_images) == (6, 6)
    if method in AT_ZERO_SHOT and not METHODS[method].on_pixels:
        assert counts == every.counter(ZeroShot())(base, new)
    names = [every.answering(create_adapter(method, own, 0), first)[0].classes for first in (2, 0)]
    assert names == [NAMES[2:], NAMES]


def test_counts_are_those_of_the_answers_among_the_names():
    every, own = every_class("fedclip")
    base, new = images("fedclip", own.feature_dim)
    adapter = create_adapter("fedclip", own, 0)
    with torch.no_grad():
        cosines = [adapter(part.features) @ every.text.features.T for part in (base, new)]
    wanted = {
        "base": cosines[0][:, :2].argmax(1) == base.labels,
        "new": cosines[1][:, 2:].argmax(1) + 2 == new.labels,
        "all": torch.cat([own.argmax(1) == part.labels for own, part in zip(cosines, (base, new), strict=True)]),
    }
    counts = every.counter(adapter)(base, new)
    assert counts == ClassCounts(base_images=6, new_images=6, **{name: int(own.sum()) for name, own in wanted.items()})
    assert counts.all < counts.base + counts.new, "images are random: more names, fewer right answers"


class Rows(Adapter):
    """A method of another package, whose parameters are of its classes and of no others."""

    trains_classes = True

    def __init__(self, frozen, generator=None, dtype=torch.float32):
        super().__init__()
        self.rows = torch.nn.Parameter(frozen.text.features.clone())

    def forward(self, inputs):
        return inputs


def test_a_method_that_cannot_is_refused_by_name():
    every, own = every_class("fedclip")
    named = EveryClass(Task("rows", "b", "0", "fp32", NAMES[:2], TEMPLATE, own.text, "d"), NAMES, every.text, clip_tiny)
    with pytest.raises(MethodError, match=r"method rows does not answer for classes .*class_split: base_new"):
        named.answering(Rows(own), 0)


def test_no_images_are_no_right_answers():
    every, own = every_class("fedclip")
    base, new = images("fedclip", own.feature_dim)
    counts = every.counter(ZeroShot())(base, new.subset(torch.arange(0)))
    assert (counts.new_images, counts.new, counts.accuracy.new) == (0, 0, 0.0)


def with_scorers(federation):
    """Give each rank of a federation images of its three classes and of three more."""
    task = federation.server._aggregator.task
    generator = torch.Generator().manual_seed(5)
    more = torch.nn.functional.normalize(torch.randn(3, WIDTH, generator=generator), dim=-1)
    text = TextFeatures(torch.cat([task.text.features, more]), task.text.logit_scale)
    every = EveryClass(task, (*task.classes, "owl", "pig", "rat"), text, lambda: None)

    def own(seed):
        rows = FeatureSet(torch.randn(18, WIDTH, generator=generator.manual_seed(seed)), torch.arange(18) % 6)
        halves = tuple(rows.subset(np.flatnonzero(half)) for half in (rows.labels < 3, rows.labels >= 3))
        return class_images(every, halves, halves)

    for number, silo in enumerate(federation.silos):
        silo._driver.silo_trainer.class_scorer = ClassScorer(every, {SILOS[number]: (own(number),)})
    federation.server._aggregator.class_scorer = ClassScorer(every, {}, own(9))
    return federation


def answers(federation):
    drivers = [silo._driver for silo in federation.silos]
    return [after_training.silo_answers(driver.silo_trainer, driver.splits) for driver in drivers]


@pytest.mark.usefixtures("fresh_fedml")
def test_over_mpi_it_is_the_same_and_counts_alone_cross(tmp_path):
    split = {"class_split": "base_new", "calibrate": False}
    one, other = (with_scorers(Federation(tmp_path / name, **split).run()) for name in ("here", "over"))
    after_training.ask_here(answers(one), one.server._aggregator, None, pytest.fail)
    record, last = one.folder.read_class_split(), one.folder.rounds()[-1]
    assert (record.base, record.new) == (("cat", "dog", "hen"), ("owl", "pig", "rat"))
    assert [own.round for own in record.adapters] == list(dict.fromkeys((last.best_round, last.round)))
    assert list(record.zero_shot.sources) == list(SILOS)
    assert record.zero_shot.target.base_images == record.zero_shot.target.new_images == 9
    world, parts = World(4), answers(other)

    def act(comm):
        exchange = after_training.closing_exchange(comm, ("server", *SILOS), 10.0, other.server._aggregator.model)
        if comm.number:
            after_training.answer_over(exchange, parts[comm.number - 1])
        else:
            after_training.ask_over(exchange, 4, other.server._aggregator, None, pytest.fail)

    assert world.together(act) == [None] * 4
    assert other.folder.read_class_split() == record
    crossed = {(bool(sender), type(content)) for sender, _, content in world.crossed}
    assert crossed == {(True, ClassCounts), (False, ScoreClasses), (False, NoMoreQuestions)}
    assert ClassCounts in what_leaves.CLOSING_FROM_SILO
    assert {ScoreClasses, NoMoreQuestions} <= {*what_leaves.CLOSING_FROM_SERVER}


@pytest.mark.parametrize("given", [None, SimpleNamespace(base=1), {"base": 1}])
def test_what_is_no_answer_is_refused(given):
    with pytest.raises(FederationError, match=f"base and new classes is none: it is {type(given).__name__}"):
        checked_counts(given)


def test_more_right_answers_than_images_are_refused():
    forged = ClassCounts.model_construct(base_images=1, new_images=1, base=2, new=0, all=0)
    with pytest.raises(FederationError, match="more right answers than images"):
        checked_counts(forged)


@pytest.fixture
def run(workshop, tmp_path, fresh_fedml):
    """Return a function that runs a small federation in this process and returns its folder."""

    def act(name, **changes):
        recipe, folder = load_recipe(workshop.recipe(name, **BASE_NEW | changes)), RunFolder(tmp_path / name)
        run_job_here(recipe, folder, resume=False, progress=False, observer=_Progress(2, shown=False))
        return recipe, folder

    return act


SIMULATED = {
    "common_args__training_type": "simulation",
    "comm_args__backend": "sp",
    "train_args__client_num_in_total": 3,
    "train_args__client_num_per_round": 3,
}


def test_a_run_trains_on_base_classes_and_a_simulation_is_scored_alike(run):
    same = {"train_args__comm_round": 2, "fedclip_args__method": "linear_probe", "fedclip_args__calibrate": False}
    (recipe, folder), (_, simulated) = run("silos", **same), run("simulated", **same | SIMULATED)
    record, first = folder.read_class_split(), folder.rounds()[0]
    assert record.base == ("dog", "elephant", "giraffe", "guitar") == load_adapter(folder.adapters / "best").classes
    assert record.new == ("horse", "house", "person")
    for name, silo in first.silos.items():
        counts = record.zero_shot.sources[name]
        assert silo.images["test"] == counts.base_images
        assert counts.base_images + counts.new_images == int(0.2 * 7 * 12)
        assert silo.zero_shot["test"] == counts.accuracy.base
    best = folder.rounds()[-1].best_round
    assert record.adapters[0].source_mean.base == pytest.approx(folder.rounds()[best].test)
    assert record.adapters[0].target.accuracy.base == pytest.approx(folder.rounds()[best].target)
    assert (record.zero_shot.target.base_images, record.zero_shot.target.new_images) == (4 * 12, 3 * 12)
    assert simulated.read_class_split() == record
    cells = class_cells(record, best, "Linear probe")
    assert [row[0] for row in cells[1:3]] == ["zero-shot CLIP", f"Linear probe, best round {best}"]
    page = run_page(recipe, folder)
    assert "Base and new classes" in [section.title for section in page.sections]
    told = next(section for section in page.sections if section.title == "Answers on the target")
    assert "The 48 images" in told.text[0]
    assert "as the run itself measured it" in told.text[0]


def test_clients_of_a_domain_are_scored_together(run):
    shared = {"data_args__partition_method": "homo", "fedclip_args__silos_per_domain": 2}
    shared |= {"train_args__client_num_in_total": 6, "train_args__comm_round": 1, "fedclip_args__method": "ridge"}
    _, folder = run("clients", **SIMULATED | shared | {"train_args__client_num_per_round": 6})
    record = folder.read_class_split()
    assert list(record.zero_shot.sources) == list(folder.rounds()[0].silos)
    images = {name: silo.images["test"] for name, silo in folder.rounds()[0].silos.items()}
    assert images == {name: own.base_images for name, own in record.adapters[0].sources.items()}
    assert all(own.new_images for own in record.adapters[0].sources.values())


def test_a_damaged_record_is_told_of(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_class_split() is None
    folder.class_split.write_text("{}")
    with pytest.raises(RunFolderError, match=r"class_split.json cannot be read: .*; restore the file"):
        folder.read_class_split()


def pictures(place, counts):
    """Files of noise, so many of each class, as (path, label)."""
    place.mkdir()
    rows = [(place / f"{label}_{number}.png", label) for label, count in counts.items() for number in range(count)]
    for number, (path, _) in enumerate(rows):
        noise(8, 8, number).save(path)
    return rows


@pytest.mark.parametrize(
    ("north", "target", "told"),
    [
        ({"ant": 10, "bee": 10}, None, r"north: .*class_split: base_new needs .*none of the new classes \(cow, dog\)"),
        (
            {"cow": 10, "dog": 10},
            None,
            r"north: .*none of the base classes \(ant, bee\) in its splits train, validation, test",
        ),
        ({"ant": 20, "dog": 20}, {"cow": 3}, r"target: .*none of the base classes \(ant, bee\)"),
        ({"ant": 20, "dog": 20}, {"ant": 3}, r"target: .*none of the new classes \(cow, dog\)"),
    ],
)
def test_who_lacks_half_of_the_classes_is_named(tmp_path, north, target, told):
    silos = {"north": pictures(tmp_path / "n", north), "south": pictures(tmp_path / "s", {"ant": 20, "dog": 20})}
    held_out = None if target is None else pictures(tmp_path / "t", target)
    classes = ["ant", "bee", "cow", "dog"]
    with pytest.raises(DataError, match=told):
        fit(silos, held_out, backbone="clip-tiny", class_split="base_new", classes=classes, progress=False)


def test_the_harmonic_mean_is_of_base_and_new():
    mean = ClassAccuracy.mean([ClassAccuracy(1.0, 0.2, 0.5), ClassAccuracy(0.6, 0.4, 0.7)])
    assert mean == pytest.approx((0.8, 0.3, 0.6))
    assert mean.harmonic == pytest.approx(2 * 0.8 * 0.3 / 1.1)
    assert ClassAccuracy(0.9, 0.0, 0.4).harmonic == 0
