"""What a study prints: its tables in three forms, the estimate, and the command around them."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from statistics import fmean

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.run_and_wait import Ending
from fedclip_plugin.report.study.study_pictures import costs
from fedclip_plugin.study import Counts, Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.running.estimate import estimate, estimate_table
from fedclip_plugin.study.statistics.spreads import KINDS
from fedclip_plugin.study.tables.accuracy_rows import accuracy_rows, unasked
from fedclip_plugin.study.tables.accuracy_tables import accuracy_table
from fedclip_plugin.study.tables.choices_table import choices_table
from fedclip_plugin.study.tables.cost_table import cost_table
from fedclip_plugin.study.tables.csv_text import to_csv
from fedclip_plugin.study.tables.headline_cases import best_case, closing, paper_case
from fedclip_plugin.study.tables.summary import summary
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.text import duration, markdown, size
from tests.support.paths import ROOT
from tests.support.study_samples import SAMPLE, sample_result, sample_results, write_study

PATHS = os.environ | {"PYTHONPATH": str(ROOT)}

PAPER = {
    "train_args.learning_rate": 5e-5,
    "train_args.weight_decay": 0.2,
    "train_args.comm_round": 200,
}


@pytest.fixture(autouse=True)
def outside_of_mpirun(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for key in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    return sample_results(tmp_path_factory.mktemp("study") / "results")


def without(findings, start):
    kept = {name: result for name, result in findings.results.items() if not name.startswith(start)}
    return replace(findings, results=kept)


def row(table, title):
    return dict(zip(table.head, next(row for row in table.rows if row[0] == title), strict=True))


def test_zero_shot_comes_first_and_each_case_has_its_row(findings):
    table = accuracy_table(findings, "generalization")
    assert [cells[0] for cells in table.rows] == [
        "zero-shot CLIP",
        *(case["title"] for case in SAMPLE["cases"].values()),
    ]
    assert table.head[1:5] == SAMPLE["targets"]
    assert all(len(cells) == len(table.head) for cells in table.rows)
    assert "+-" not in row(table, "zero-shot CLIP")["mean"]  # the same images with every seed
    assert "+-" in row(table, "FedCLIP")["mean"]
    assert row(table, "FedCLIP")["difference to zero-shot"].startswith("+")
    assert row(table, "FedCLIP (paper's settings)")["difference to zero-shot"].startswith("no difference [-")
    assert row(table, "CLIP-Adapter, no federation")["difference to zero-shot"].startswith("-")
    assert row(table, "FedCLIP")["last round"] != row(table, "FedCLIP")["mean"].split()[0]
    assert "incomplete" not in table.title


def test_what_is_missing_is_said_and_leaves_no_mean(findings):
    table = accuracy_table(without(findings, "fedclip/photo"), "generalization")
    assert "(incomplete: 36 of 40 cells)" in table.title
    cells = row(table, "FedCLIP")
    assert (cells["photo"], cells["mean"], cells["difference to zero-shot"]) == ("-", "-", "-")
    assert (cells["last round"], cells["seeds"]) == ("-", "0 of 3")
    fewer = accuracy_table(without(findings, "fedclip/photo/seed_2"), "generalization")
    assert row(fewer, "FedCLIP")["seeds"] == "2 of 3"
    assert "36 of 40 federations" in summary(without(findings, "fedclip/photo"))
    assert accuracy_table(without(findings, ""), "personalization") is None
    assert "no cell of 40 has a result yet" in summary(without(findings, ""))


def test_personalization_has_the_fine_tuned_adapters_where_there_are_some(findings):
    def tuned(result):
        sources = {name: part.model_copy(update={"personal": 0.9}) for name, part in result.sources.items()}
        return result.model_copy(update={"sources": sources}) if result.case == "fedclip" else result

    found = replace(findings, results={name: tuned(result) for name, result in findings.results.items()})
    table = accuracy_table(found, "personalization")
    assert row(table, "FedCLIP")["own adapter"] == "90.0 +- 0.0"
    assert any("from that of the last round" in note for note in table.notes)
    assert row(table, "FedCLIP (paper's settings)")["own adapter"] == "-"
    assert "own adapter" not in accuracy_table(found, "generalization").head
    assert "own adapter" not in accuracy_table(findings, "personalization").head


def test_a_case_with_prompts_of_its_own_is_compared_with_its_own_zero_shot(findings):
    def other(result):
        target = result.target_accuracy.model_copy(update={"zero_shot": 0.5})
        return result.model_copy(update={"target_accuracy": target}) if result.case == "clip_adapter" else result

    found = replace(findings, results={name: other(result) for name, result in findings.results.items()})
    notes = accuracy_table(found, "generalization").notes
    assert "CLIP-Adapter, no federation: zero-shot CLIP as this case has it scores 50.0" in notes[-1]


def test_best_by_test_and_worst_silo_are_means_over_targets_and_seeds(findings):
    cells = findings.of_case("fedclip")
    gap = fmean(max(cell.curve.target[1:]) - cell.target_accuracy.selected for cell in cells)
    assert gap > 0
    general, personal = (accuracy_table(findings, kind) for kind in KINDS)
    assert row(general, "FedCLIP")["best by test"] == f"{100 * gap:+.1f}"
    assert "best by test" not in personal.head, "with targets they are what papers report"
    assert any("Nothing here is chosen by it" in note for note in general.notes)
    worst = {
        column: fmean(min(getattr(own, column) for own in cell.sources.values()) for cell in cells)
        for column in ("zero_shot", "selected")
    }
    assert row(personal, "FedCLIP")["worst silo"].split()[0] == f"{100 * worst['selected']:.1f}"
    assert row(personal, "zero-shot CLIP")["worst silo"].split()[0] == f"{100 * worst['zero_shot']:.1f}"
    assert "worst silo" not in general.head


def test_costs_stand_in_units_with_the_machine(findings):
    table = cost_table(findings)
    cells = row(table, "FedCLIP")
    assert (cells["sent"], cells["up a round and silo"], cells["peak of a silo"]) == ("33,024", "133 kB", "640 MB")
    assert (cells["s a round"], cells["train"], cells["rounds"]) == ("0.040", "0.020", "12")
    assert table.notes[-1] == "machine: sample, 2 cores, no GPU"


def test_validation_is_told_where_every_target_and_seed_is_known(findings):
    cells = findings.of_case("fedclip")
    mean = sum(result.validation.selected for result in cells) / len(cells)
    assert row(choices_table(findings), "FedCLIP")["validation"] == f"{100 * mean:.1f}"
    without = {name: result for name, result in findings.results.items() if result is not cells[-1]}
    assert row(choices_table(replace(findings, results=without)), "FedCLIP")["validation"] == "-"


def test_csv_holds_every_number_of_the_text_at_full_precision(findings):
    lines = list(csv.DictReader(summary(findings, "csv").splitlines()))
    means = [line for line in lines if (line["case"], line["measure"], line["domain"]) == ("fedclip", "selected", "")]
    assert [line["part"] for line in means] == ["generalization", "personalization", "validation"]
    results = findings.of_case("fedclip")
    assert float(means[0]["value"]) == pytest.approx(sum(r.target_accuracy.selected for r in results) / 12)
    assert float(means[2]["value"]) == pytest.approx(sum(r.validation.selected for r in results) / 12)
    differences = [line for line in lines if line["measure"] == "difference"]
    assert all(float(line["low"]) <= float(line["value"]) <= float(line["high"]) for line in differences)
    assert {line["measure"] for line in lines if line["part"] == "costs"} >= {"bytes_up", "seconds_train", "peak_silo"}


def test_markdown_is_a_table_on_every_line(findings):
    text = summary(findings, "markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (1 + 1 + 4) + 2 * (1 + 1 + 3)
    assert markdown([["a|b", "c"], ["1", "2"]]).splitlines()[1:] == ["| --- | ---: |", "| 1 | 2 |"]


def test_the_paper_s_case_and_our_best_are_named_by_settings_and_by_validation(tmp_path):
    cases = {**SAMPLE["cases"], "old": {"title": "Old", "set": PAPER}}
    findings = sample_results(tmp_path / "results", cases=cases)
    assert paper_case(findings) == "old"  # and not the case of that name, with its 40 rounds
    assert best_case(findings) == "fedclip"
    assert "our best on cached features, by source validation (FedCLIP)" in closing(findings, "generalization")
    assert "the paper's FedCLIP (Old)" in closing(findings, "personalization")
    assert best_case(without(findings, "old/photo")) is None
    assert "our best" not in closing(without(findings, "old/photo"), "generalization")


def test_our_best_is_federated_whatever_it_scores_on_tests(tmp_path):
    cases = {
        "alone": {"title": "Alone", "set": {"fedclip_args.federation": "local"}},
        "together": {"title": "Together"},
        "worse": {"title": "Worse", "set": {"train_args.learning_rate": 1e-6}},
    }
    plan = Plan(load_study(write_study(tmp_path / "s.yaml", cases=cases, seeds=[0])))
    gains = {"alone": 0.1, "together": 0.01, "worse": 0.0}
    results = {cell.name: sample_result(cell, gains[cell.case]) for cell in plan.todo({})}
    assert best_case(StudyResults(plan, results)) == "together"


def test_our_best_is_chosen_over_the_seeds_that_every_candidate_has(tmp_path):
    cases = {name: {"title": name, "set": {"train_args.epochs": number}} for number, name in enumerate("ab", 1)}
    plan = Plan(load_study(write_study(tmp_path / "s.yaml", cases=cases, seeds=[0, 1], targets=["photo"])))
    gains = {("a", 0): 0.01, ("a", 1): 0.09, ("b", 0): 0.02}
    results = {}
    for (case, seed), gain in gains.items():
        cell = plan.cell(case, "photo", seed, 0)
        results[cell.name] = sample_result(cell, gain)
    assert best_case(StudyResults(plan, results)) == "b"
    last = plan.cell("b", "photo", 1, 0)
    assert best_case(StudyResults(plan, results | {last.name: sample_result(last, 0.03)})) == "a"


def test_without_federation_nothing_need_be_exchanged(tmp_path):
    cases = {"alone": {"title": "Alone", "set": {"fedclip_args.federation": "local"}}, "all": {"title": "All"}}
    findings = sample_results(tmp_path / "results", cases=cases, seeds=[0])
    table = cost_table(findings)
    columns = ("sent", "up a round and silo", "down")
    assert [row(table, "Alone")[name] for name in columns] == ["-"] * 3
    assert row(table, "All")["down"] == "133 kB"
    assert any("without federation" in note for note in table.notes)
    lines = [line.split(",") for line in summary(findings, "csv").splitlines()]
    assert [float(line[4]) for line in lines if line[2] == "bytes_up"] == [0, 132_700]
    left, _ = costs(findings, accuracy_rows(findings, "generalization")).figure.axes
    assert [line.get_xdata()[0] for line in left.get_lines()[:-1]] == [6 * 132_700 * _mean_selected(findings, "all")]


def _mean_selected(findings, case):
    return sum(result.selected_round for result in findings.of_case(case)) / 4


def test_results_of_several_revisions_or_of_other_images_are_told_under_the_tables(findings):
    assert "revisions" not in summary(findings)
    name, result = next(iter(findings.results.items()))
    fewer = Counts(zero_shot_wrong=(1, 0), zero_shot_right=(0, 1))
    other = result.model_copy(update={"code": "later", "counts": result.counts | {"target": fewer}})
    told = choices_table(replace(findings, results=findings.results | {name: other})).notes
    assert "made by 2 revisions of the code: 0123456789ab, later" in told[1]
    assert f"not of the same images; tested on: {result.target} (target) 2 or 140" in told[2]


def test_where_no_rank_has_all_answers_there_is_no_interval_and_a_word(findings):
    lost = {
        question: kinds for question, kinds in findings.joint.items() if not question.cells[0].startswith("fedclip/")
    }
    table = accuracy_table(replace(findings, joint=lost), "personalization")
    assert row(table, "FedCLIP")["difference to zero-shot"] == "-"
    assert row(table, "FedCLIP")["mean"] == row(accuracy_table(findings, "personalization"), "FedCLIP")["mean"]
    assert [note for note in table.notes if note.startswith("FedCLIP: no interval")]
    assert not [note for note in accuracy_table(findings, "personalization").notes if "no interval" in note]
    assert unasked(replace(findings, joint=lost)) == ["fedclip"]
    assert unasked(findings) == []


def test_the_estimate_measures_where_it_can(findings):
    left = estimate(without(findings, "fedclip/photo"))
    assert [(case.title, case.cells, case.measured) for case in left][1] == ("FedCLIP", 4, True)
    assert left[1].seconds == pytest.approx(1 + 12 * 0.04)
    nothing = estimate(without(findings, ""))
    assert [(case.cells, case.measured) for case in nothing] == [(12, False), (16, False), (12, False)]
    table = estimate_table(without(findings, ""))
    assert table.title == "study sample: 3 cases, 4 targets, 3 seeds; 40 cells, 40 to run"
    assert all(cells[-1].startswith("~") for cells in table.rows[:-1])
    assert estimate_table(findings).rows[-1][1] == "0"


def test_the_time_of_the_user_s_own_images_is_not_guessed(tmp_path):
    plan = Plan(load_study(write_study(tmp_path / "s.yaml", recipe="pacs/vit_b32_fedclip", set={})))
    table = estimate_table(StudyResults(plan, {}))
    assert {cells[-1] for cells in table.rows[:-1]} == {"unknown"}
    assert table.rows[-1][-1] == "unknown"


def test_without_a_target_there_is_personalization_alone_and_its_columns_are_explained(tmp_path):
    shared = {"train_args.client_num_in_total": 4, "train_args.client_num_per_round": 4}
    found = sample_results(tmp_path / "results", targets=None, set={**SAMPLE["set"], **shared})
    assert accuracy_table(found, "generalization") is None
    table = accuracy_table(found, "personalization")
    assert table.notes[0].startswith("accuracy: of the round") and "; a silo's test split is" in table.notes[0]
    assert found.plan.study.size() == "3 cases, no targets, 3 seeds"
    assert row(choices_table(found), "FedCLIP")["no target"].startswith("learning_rate")
    gap = fmean(max(cell.curve.test[1:]) - cell.source_mean("selected") for cell in found.of_case("fedclip"))
    assert row(table, "FedCLIP")["best by test"] == f"{100 * gap:+.1f}"


def test_a_dry_run_prints_the_plan_and_starts_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(Launch, "attend", lambda *words: pytest.fail("started"))
    path = write_study(tmp_path / "s.yaml")
    assert main(["study", str(path), "--dry-run"]) == 0
    assert "40 cells, 40 to run" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert main(["study", str(path), "--dry-run", "--set", "train_args.epochs=0"]) == 2
    assert "train_args.epochs = 0" in capsys.readouterr().err


@pytest.mark.parametrize(("told", "counted"), [(False, 1), (True, 0)])
def test_a_study_becomes_one_mpirun_job_and_a_cell_in_which_it_ends_has_failed(
    told, counted, capsys, tmp_path, monkeypatch
):
    results, words = ResultsFolder(tmp_path / "runs" / "studies" / "sample"), []

    def attend(launch, program):
        words.extend(launch.command(program))
        results.failures.begin("fedclip/photo/seed_0_point_1")
        return Ending(143, told)

    monkeypatch.setattr(Launch, "attend", attend)
    path = write_study(tmp_path / "s.yaml")
    only = ["--only", "fedclip", "--only", "fedclip_paper"]
    assert main(["study", str(path), "--set", "train_args.epochs=2", *only, "--no-progress"]) == 143
    assert words[words.index("-np") + 1] == "4"
    own = words[words.index("fedclip_plugin") + 1 :]
    assert own == [
        *("study", str(path), "--out", "runs/studies/sample"),
        *("--set", "train_args.epochs=2", *only, "--no-progress"),
    ]
    assert words[words.index("fedclip_plugin") - 2] == sys.executable
    said = capsys.readouterr()
    assert "2 cases, 4 targets, 3 seeds; 28 cells, 28 to run" in said.out
    assert ("ended in cell fedclip/photo/seed_0_point_1" in said.err) is not told
    assert "0 cells are complete and safe in runs/studies/sample; run the same command again" in said.err
    assert sum(results.failures.by_cell().values()) == counted


@pytest.mark.parametrize("told", [False, True])
def test_who_attends_a_job_knows_whether_it_was_told_to_stop(told, tmp_path):
    started = tmp_path / "started"
    job = f"import os, pathlib, time; pathlib.Path({str(started)!r}).touch(); " + (
        "time.sleep(60)" if told else "os.kill(os.getpid(), 15)"
    )
    attending = (
        "import sys; from fedclip_plugin.cli.mpirun.command import Launch; Launch.command = lambda self, words: words; "
        f"print(Launch(2).attend([sys.executable, '-c', {job!r}]))"
    )
    here = subprocess.Popen([sys.executable, "-c", attending], stdout=subprocess.PIPE, text=True, env=PATHS)
    while not started.exists() and here.poll() is None:
        time.sleep(0.02)
    if told:
        here.send_signal(signal.SIGTERM)
    assert here.communicate(timeout=60)[0].splitlines()[-1] == repr(Ending(143, told))


def test_a_rank_of_a_job_of_the_wrong_size_says_so_and_ends(monkeypatch, tmp_path):
    def end(rank, error, debug):
        raise SystemExit(f"{rank}: {error}")

    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr("fedclip_plugin.cli.study.end_rank", end)
    with pytest.raises(SystemExit, match=r"1: mpirun started 2 ranks; this study takes 4 \(a server and 3 silos\)"):
        main(["study", str(write_study(tmp_path / "s.yaml"))])


def test_a_complete_study_is_printed_and_not_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(Launch, "attend", lambda *words: pytest.fail("started"))
    findings = sample_results(tmp_path / "results")
    path = str(tmp_path / "results_study.yaml")
    assert main(["study", path, "--out", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out == summary(findings) + "\n"
    for form in ("text", "markdown", "csv"):
        assert main(["study", path, "--out", str(tmp_path / "results"), "--table", form]) == 0
        assert capsys.readouterr().out.rstrip("\n") == summary(findings, form).rstrip("\n")
    assert main(["study", path, "--out", str(tmp_path / "results"), "--only", "clip_adapter"]) == 0
    told = capsys.readouterr().out
    assert "CLIP-Adapter, no federation" in told and "FedCLIP (paper's settings)" not in told
    file = next((tmp_path / "results" / "cells").rglob("*.json"))
    file.write_text("{")
    assert main(["study", path, "--out", str(tmp_path / "results"), "--table"]) == 0
    told = capsys.readouterr()
    assert f"{file} is damaged" in told.err
    assert "of 40 cells)" in told.out


def test_numbers_are_told_in_the_unit_that_suits_them():
    assert [size(b) for b in (0, 1, 74, 999)] == ["0 bytes", "1 byte", "74 bytes", "999 bytes"]
    assert [size(b) for b in (133_000, 2_130_000, 605_200_000, 1.27e9)] == ["133 kB", "2.13 MB", "605 MB", "1.27 GB"]
    assert [duration(s) for s in (0.0344, 5.25, 61, 600, 7200)] == ["0.034 s", "5.2 s", "61 s", "10 min", "2.0 h"]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
        ("+1", "'+1"),
        ("-photo", "'-photo"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("two\nlines\x1b", "two\\nlines\\x1b"),
        ("photo", "photo"),
    ],
)
def test_no_name_in_csv_is_a_formula_and_numbers_stay_numbers(monkeypatch, name, cell):
    line = ("case", "part", "difference", name, -1.5, None, -2, 0.5)
    monkeypatch.setattr("fedclip_plugin.study.tables.csv_text._lines", lambda findings: iter([line]))
    (row,) = csv.DictReader(io.StringIO(to_csv(None)))
    assert (row["domain"], row["value"], row["deviation"], row["low"]) == (cell, "-1.5", "", "-2")


def test_what_a_study_calls_its_domains_is_no_markup_and_one_line():
    nasty = "<img src=x>|`a`\n\x1b[2J"
    table = StudyTable(nasty, ["name", nasty], [[nasty, "1"]], (nasty,))
    for text in (table.to_text(), table.to_markdown()):
        assert all(line.isprintable() for line in text.splitlines())
        assert len(text.splitlines()) == (7 if text.startswith("**") else 5)
    assert "<img" not in table.to_markdown() and "|`" not in table.to_markdown()


def test_a_partition_of_any_case_that_cannot_be_met_is_refused_before_the_start(tmp_path, capsys):
    for label in ("cat", "dog", "owl"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "images" / label / f"{number}.png").write_bytes(b"never opened")
    shared = {
        "fedclip_args.data_root": str(tmp_path / "images"),
        "fedclip_args.backbone": "clip-tiny",
        "fedclip_args.min_images_per_silo": 5,
        "train_args.client_num_in_total": 10,
        "train_args.client_num_per_round": 2,
    }
    cases = {
        "even": {"title": "even", "set": {"data_args.partition_alpha": 100}},
        "skewed": {"title": "skewed", "set": {"data_args.partition_alpha": 0.001}},
    }
    recipe = "simulation/vit_b32_fedclip_cifar100"
    path = write_study(tmp_path / "s.yaml", recipe=recipe, set=shared, targets=None, cases=cases)
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "partition_alpha 0.001 left a silo with fewer than 5 (the smallest has 0) of the 60 images" in told
    assert not (tmp_path / "out" / "cells").exists()


def test_the_tables_say_for_how_many_comparisons_they_hold_and_what_one_seed_cannot_tell(findings, tmp_path):
    notes = accuracy_table(findings, "generalization").notes
    assert "3 differences are told: all 3 intervals hold together with 95 % (Bonferroni)" in notes[1]
    assert "test for all 3 together at 5 % (Holm)" in notes[1]
    assert "of one seed" not in " ".join(notes)
    alone = sample_results(tmp_path / "one", seeds=[0], cases={"fedclip": SAMPLE["cases"]["fedclip"]})
    for kind in ("generalization", "personalization"):
        told = " ".join(accuracy_table(alone, kind).notes)
        assert "one difference is told: its interval holds with 95 %" in told
        assert "of one seed an interval covers other test images alone" in told
