"""The difference between two cases: of known answers, of cases with several adapters, and where answers are missing."""

import shutil

import numpy as np
import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.study import KeptAnswers, Kinds, ResultsFolder
from fedclip_plugin.study.running.own_answers import kinds_between
from fedclip_plugin.study.statistics.intervals import DomainCounts, estimate
from fedclip_plugin.study.tables.difference_tables import difference_tables
from tests.support.study_samples import sample_answers, sample_results

LABELS = np.zeros(4, dtype=int)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A complete study and its folder, with what the ranks answered for each image."""
    findings = sample_results(tmp_path_factory.mktemp("study") / "results")
    folder = ResultsFolder(tmp_path_factory.getbasetemp() / "study0" / "results")
    for name, result in findings.results.items():
        cell = findings.plan.named(name)
        for part in result.counts:
            sample_answers(cell, part).save(folder.run_folder(result), part)
    return findings, folder


def answers(*rows, images=None):
    """Keep answers where 0 is right and 1 is wrong: of zero-shot CLIP all are wrong; a row an adapter."""
    return KeptAnswers.of("d", LABELS, LABELS + 1, np.array(rows), images)


def test_a_gain_is_what_the_first_has_right_and_the_second_has_not():
    first, second = answers([0, 0, 1, 1]), answers([1, 0, 1, 0])
    assert kinds_between([(first, second)]) == Kinds.of([1, 0, 0, -1], [1, 1, 1, 1])
    assert kinds_between([(first, first)]) == Kinds.of([0] * 4, [1] * 4)


def test_an_image_is_taken_with_the_answers_of_all_federations_that_tested_it():
    first = [answers([0, 0, 1, 1], images=[0, 1, 2, 3]), answers([0, 0, 0, 0], images=[3, 4, 5, 6])]
    second = [answers([1, 1, 1, 1], images=[0, 1, 2, 3]), answers([1, 1, 1, 1], images=[3, 4, 5, 6])]
    found = kinds_between(list(zip(first, second, strict=True)))
    assert found == Kinds.of([1, 1, 0, 1, 1, 1, 1], [1, 1, 1, 2, 1, 1, 1])


def test_two_adapters_against_one_give_the_difference_of_the_accuracies():
    first, second = answers([0, 0, 1, 1], [0, 1, 1, 1]), answers([1, 0, 0, 0])
    kinds = kinds_between([(first, second)])
    found = estimate([DomainCounts(kinds, {0: (kinds,)})])
    assert found.mean == pytest.approx(3 / 8 - 3 / 4)


def test_answers_that_are_missing_or_of_other_images_are_not_compared():
    first = answers([0, 0, 1, 1])
    assert kinds_between([(first, None)]) is None
    assert kinds_between([(first, answers([0, 0, 1, 1], images=[0, 1, 2, 4]))]) is None
    assert kinds_between([]) is None


def test_the_table_has_both_accuracies_and_their_difference_by_domain_and_in_the_mean(kept):
    general, personal = difference_tables(*kept, "fedclip", "clip_adapter")
    assert general.title.startswith("Generalization: FedCLIP less CLIP-Adapter, no federation (12 federations of each)")
    assert [row[0] for row in general.rows] == ["art_painting", "cartoon", "photo", "sketch", "mean"]
    assert len(personal.rows) == 5
    for row in (*general.rows, *personal.rows):
        difference = float(row[3].split()[0]) if row[3][0] in "+-" else 0.0
        assert difference == pytest.approx(float(row[1]) - float(row[2]), abs=0.11) or row[3].startswith(
            "no difference"
        )
    assert general.rows[-1][3].startswith("+")
    swapped, _ = difference_tables(*kept, "clip_adapter", "fedclip")
    assert swapped.rows[-1][1:3] == general.rows[-1][2:0:-1] and swapped.rows[-1][3].startswith("-")
    same, _ = difference_tables(*kept, "fedclip", "fedclip")
    assert {row[3] for row in same.rows} == {"no difference [+0.0, +0.0]"}
    assert "over other seeds and other test images" in general.notes[0]
    assert "not widened for the other rows or for other cases" in general.notes[0]


def test_without_the_answers_there_are_accuracies_and_a_word(kept, tmp_path):
    findings, folder = kept
    shutil.copytree(folder.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "runs" / "clip_adapter" / "photo")
    general, _ = difference_tables(findings, ResultsFolder(tmp_path / "copy"), "fedclip", "clip_adapter")
    told = {row[0]: row[3] for row in general.rows}
    assert told["photo"] == told["mean"] == "-" and told["sketch"] != "-"
    assert "no interval, since not all answers" in general.notes[-1]


def test_the_command_prints_both_tables_and_names_what_is_wrong(kept, capsys, tmp_path):
    _, folder = kept
    words = ["study", str(folder.path.parent / "results_study.yaml"), "--out", str(folder.path), "--difference"]
    assert main([*words, "fedclip", "fedclip_paper"]) == 0
    told = capsys.readouterr().out
    assert "Generalization: FedCLIP less FedCLIP (paper's settings)" in told and "Personalization: " in told
    assert main([*words, "fedclip", "clip_adaptor"]) == 2
    assert "no case 'clip_adaptor' (did you mean clip_adapter?)" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "none"), "--difference", "fedclip", "clip_adapter"]) == 2
    assert "fedclip and clip_adapter have no target and seed in common yet" in capsys.readouterr().err
