"""Means and deviations over seeds, the kinds of images, and the figures of the rows."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fedclip_plugin.study import Kinds
from fedclip_plugin.study.running.own_answers import KeptAnswers, kinds_of
from fedclip_plugin.study.statistics.spreads import Spread, over_domains, spread
from fedclip_plugin.study.tables.accuracy_rows import accuracy_row
from tests.support.study_samples import sample_results


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences of correctness for some images of one domain, from one federation."""

    images: np.ndarray
    difference: np.ndarray


def paired(difference, images=None):
    difference = np.asarray(difference)
    return Paired(np.arange(len(difference)) if images is None else np.asarray(images), difference)


def answers(one):
    """Answer so that the differences come about: labels are 0, and another label is wrong."""
    zero_shot, selected = np.where(one.difference > 0, 1, 0), np.where(one.difference < 0, 1, 0)
    return KeptAnswers.of("d", np.zeros(len(one.difference), dtype=int), zero_shot, selected, one.images)


def kinds(domains):
    return [kinds_of([answers(one) for one in federations]) for federations in domains]


def test_spread_is_the_sample_deviation_and_none_for_one_seed():
    assert spread([0.7, 0.8, 0.9]) == Spread(pytest.approx(0.8), pytest.approx(0.1))
    assert spread([0.7]) == Spread(0.7, None)
    assert spread([]) is None


def test_deviation_over_seeds_is_that_of_the_mean_over_targets():
    found = over_domains({"a": {0: 0.5, 1: 0.7, 2: 0.1}, "b": {0: 0.7, 1: 0.5}}, (0, 1))
    assert found == Spread(pytest.approx(0.6), pytest.approx(0.0))
    assert over_domains({}, (0, 1)) is None
    assert over_domains({"a": {}}, ()) is None


def test_images_are_told_of_by_their_kinds_only():
    """Two federations, three images each, of which they have two in common."""
    first = KeptAnswers.of("d", [0, 0, 0], [0, 1, 1], [0, 0, 1], positions=[4, 5, 6])
    second = KeptAnswers.of("d", [0, 0, 0], [0, 0, 0], [1, 0, 0], positions=[4, 5, 7])
    assert kinds_of([first]) == first.counts().kinds() == Kinds(gain=(0, 1), tried=(1, 1), images=(2, 1))
    assert kinds_of([first, second]) == Kinds(gain=(-1, 0, 1), tried=(2, 1, 2), images=(1, 2, 1))
    several = KeptAnswers.of("d", [0, 0, 0], [0, 1, 1], [[0, 0, 1], [1, 0, 1]])
    assert (several.counts().zero_shot_right, several.counts().zero_shot_wrong) == ((0, 1, 0), (1, 0, 1))
    assert (several.counts().accuracy(), several.counts().zero_shot_accuracy()) == (0.5, pytest.approx(1 / 3))
    assert kinds_of([several]) == several.counts().kinds()


def test_what_is_told_of_many_images_does_not_grow_with_them():
    rng = np.random.default_rng(0)
    told = kinds([[paired(rng.choice([-1, 0, 1], 50_000)) for _ in range(3)]])[0]
    assert len(told.images) == 7
    assert sum(told.images) == 50_000


@pytest.mark.parametrize(("case", "verdict"), [("fedclip", "gain"), ("clip_adapter", "loss")])
def test_figures_agree_with_the_accuracies_of_the_cells(case, verdict, tmp_path):
    findings = sample_results(tmp_path / "s")
    cells = findings.of_case(case)
    own, sources = accuracy_row(findings, case, "generalization"), accuracy_row(findings, case, "personalization")
    assert (len(cells), own.seeds) == (12, (0, 1, 2))
    assert own.selected.mean.mean == pytest.approx(np.mean([cell.target_accuracy.selected for cell in cells]))
    assert sources.last.mean.mean == pytest.approx(np.mean([cell.source_mean("last") for cell in cells]))
    for found in (own, sources):
        gain = found.selected.mean.mean - found.zero_shot.mean.mean
        assert found.difference.mean == pytest.approx(gain)
        assert np.mean([found.by_domain[name].mean for name in found.by_domain]) == pytest.approx(gain)
    assert own.difference.verdict == verdict
    assert own.personal is None
    assert sources.personal is None
    assert sources.difference.high - sources.difference.low > own.difference.high - own.difference.low  # fewer images


def test_a_missing_target_leaves_no_mean_over_targets(tmp_path):
    findings = sample_results(tmp_path / "s")
    gone = {name for name in findings.results if name.startswith("fedclip/photo/")}
    findings = replace(findings, results={name: cell for name, cell in findings.results.items() if name not in gone})
    found = accuracy_row(findings, "fedclip", "generalization")
    assert list(found.selected.domains) == ["art_painting", "cartoon", "sketch"]
    assert (found.selected.mean, found.difference, found.seeds) == (None, None, ())
