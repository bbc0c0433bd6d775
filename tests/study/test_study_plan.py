"""Which cells are run, what is kept of them, and which grid point is chosen."""

import json

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.study import CellResult, Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.running.own_answers import KeptAnswers, pack, unpack
from fedclip_plugin.study.running.plan import choose
from tests.support.study_samples import SAMPLE, sample_result, sample_results, write_study


@pytest.fixture
def plan(tmp_path):
    return Plan(load_study(write_study(tmp_path / "s.yaml", seeds=[3, 1], targets=["photo", "sketch"])))


def names(cells):
    return [cell.name for cell in cells]


def scored(cell, validation):
    result = sample_result(cell)
    return result.model_copy(update={"validation": result.validation.model_copy(update={"selected": validation})})


def test_grids_come_first_in_the_study_s_order_with_the_first_seed(plan):
    assert names(plan.todo({})) == [
        *("fedclip_paper/photo/seed_3_point_0", "fedclip_paper/sketch/seed_3_point_0"),
        *("fedclip/photo/seed_3_point_0", "fedclip/photo/seed_3_point_1"),
        *("fedclip/sketch/seed_3_point_0", "fedclip/sketch/seed_3_point_1"),
        *("clip_adapter/photo/seed_3_point_0", "clip_adapter/sketch/seed_3_point_0"),
    ]
    assert plan.total() == 14


def test_other_seeds_take_the_point_of_the_best_validation_for_each_target(plan):
    known = {cell.name: scored(cell, 0.8) for cell in plan.todo({})}
    better = plan.cell("fedclip", "sketch", 3, 1)
    known[better.name] = scored(better, 0.81)
    left = names(plan.todo(known))
    assert "fedclip/photo/seed_1_point_0" in left  # equal points: the first
    assert "fedclip/sketch/seed_1_point_1" in left
    assert len(left) == 6
    assert len(known) + len(left) == plan.total()


def test_a_point_is_not_chosen_before_the_grid_is_complete(plan):
    first = plan.cell("fedclip", "photo", 3, 0)
    assert plan.chosen("fedclip", "photo", {first.name: sample_result(first)}) is None
    assert "fedclip/photo/seed_1_point_0" not in names(plan.todo({first.name: sample_result(first)}))


def test_the_choice_looks_at_validation_only_and_not_at_the_order_of_results(plan):
    cells = plan.grid("fedclip", "photo")
    results = [scored(cells[1], 0.9), scored(cells[0], 0.9)]
    assert choose(results) == 0
    assert choose([scored(cells[1], 0.91), results[1]]) == 1
    target = results[1].target_accuracy.model_copy(update={"selected": 1.0})
    assert choose([scored(cells[1], 0.91), results[1].model_copy(update={"target_accuracy": target})]) == 1


def test_a_cell_knows_its_settings_and_what_defines_it(plan, tmp_path):
    cell = plan.cell("fedclip", "photo", 3, 1)
    assert cell.settings == {"train_args.learning_rate": 3e-3}
    longer = load_study(write_study(tmp_path / "longer.yaml", seeds=[3, 1]), ["train_args.comm_round=13"])
    assert Plan(longer).cell("fedclip", "photo", 3, 1).digest != cell.digest
    assert plan.cell("fedclip", "photo", 1, 1).digest != cell.digest


def test_results_come_back_as_they_were_saved(tmp_path):
    findings = sample_results(tmp_path / "r")
    folder = ResultsFolder(tmp_path / "r")
    again = StudyResults.read(Plan(folder.study()), folder)
    assert again.results == findings.results
    assert again.faults == ()
    assert again.complete()
    assert not list((tmp_path / "r").rglob("*.tmp"))
    file = folder.cell_file(findings.plan.cell("fedclip", "sketch", 0, 0))
    assert json.loads(file.read_text())["format_version"] == 2
    assert file.stat().st_size < 20_000


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "", "is damaged"),
        (lambda text: text.replace('"digest":"', '"digest":"0'), "was made by another recipe"),
        (lambda text: text.replace('"seed":0', '"seed":"zero"'), "damaged (seed:"),
        (lambda text: text.replace('"zero_shot_right":[', '"zero_shot_right":[7,'), "is damaged"),
    ],
)
def test_damaged_and_stale_files_are_told_and_their_cells_run_anew(damage, said, tmp_path):
    findings = sample_results(tmp_path / "r", seeds=[0])
    folder, cell = ResultsFolder(tmp_path / "r"), findings.plan.cell("fedclip", "photo", 0, 1)
    file = folder.cell_file(cell)
    file.write_text(damage(file.read_text()))
    found = StudyResults.read(findings.plan, folder)
    assert len(found.faults) == 1
    assert said in found.faults[0]
    assert str(file) in found.faults[0]
    assert names(findings.plan.todo(found.results)) == [cell.name]
    with pytest.raises(RunFolderError, match="run anew"):
        folder.load(cell)


def test_a_changed_recipe_makes_its_cells_stale_and_no_others(tmp_path):
    sample_results(tmp_path / "r", seeds=[0])
    changed = load_study(write_study(tmp_path / "s.yaml", seeds=[0], set={"fedclip_args.images_per_class": 20}))
    found = StudyResults.read(Plan(changed), ResultsFolder(tmp_path / "r"))
    assert {result.case for result in found.results.values()} == {"fedclip_paper"}  # it sets comm_round itself
    assert len(found.faults) == 12


def test_a_folder_of_another_study_is_left_alone(tmp_path):
    findings = sample_results(tmp_path / "r", seeds=[0])
    other = load_study(write_study(tmp_path / "s.yaml", study="other"))
    with pytest.raises(RunFolderError, match=r"holds the study sample, not other: name another with --out"):
        ResultsFolder(tmp_path / "r").begin(other)
    ResultsFolder(tmp_path / "r").begin(findings.plan.study)
    with pytest.raises(RunFolderError, match="no results folder"):
        ResultsFolder(tmp_path / "nowhere").study()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        ResultsFolder(tmp_path / "file" / "below").begin(other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": {**SAMPLE["set"], "train_args.epochs": 2}}, "train_args.epochs was 1, is 2 (every case)"),
        (
            {"cases": {**SAMPLE["cases"], "clip_adapter": {"title": "C"}}},
            "fedclip_args.method was clip_adapter, is fedclip (case clip_adapter, point 0)",
        ),
        (
            {"cases": {**SAMPLE["cases"], "fedclip": {"title": "F", "grid": [{"train_args.learning_rate": 0.01}]}}},
            "train_args.learning_rate was 0.001, is 0.01 (case fedclip, point 0)",
        ),
        ({"recipe": "pacs/vit_b32_fedclip", "set": {}}, "data_args.dataset was miniature, is pacs (every case)"),
    ],
)
def test_other_settings_under_the_same_name_replace_nothing(changes, said, tmp_path):
    sample_results(tmp_path / "r", seeds=[0], targets=["photo"])
    before = (tmp_path / "r" / "study.yaml").read_bytes()
    other = load_study(write_study(tmp_path / "s.yaml", **changes))
    with pytest.raises(RunFolderError, match="name another folder with --out") as caught:
        ResultsFolder(tmp_path / "r").begin(other)
    assert said in str(caught.value)
    assert (tmp_path / "r" / "study.yaml").read_bytes() == before


def test_a_study_may_grow_and_move_and_an_old_file_is_not_judged_by_new_rules(tmp_path):
    sample_results(tmp_path / "r", seeds=[0], targets=["photo"])
    folder, file = ResultsFolder(tmp_path / "r"), tmp_path / "r" / "study.yaml"
    old = yaml.safe_load(file.read_text())
    old["cases"]["twin"] = {**old["cases"]["fedclip"], "an_old_key": 1}  # an equal title, a key that went away
    file.write_text(yaml.safe_dump(old))
    fedclip = {"title": "F", "grid": [{"train_args.learning_rate": rate} for rate in ("1e-3", 0.003, 0.1)]}
    cases = {"fedclip": fedclip, "new": {"title": "New", "set": {"train_args.epochs": 3}}}
    moved = {**SAMPLE["set"], "fedclip_args.feature_cache_dir": "elsewhere", "fedclip_args.round_timeout": 9}
    folder.begin(load_study(write_study(tmp_path / "s.yaml", cases=cases, set=moved, targets=["sketch", "photo"])))
    assert set(folder.study().cases) == {"fedclip", "new"}


def test_answers_are_kept_by_their_rank_and_come_back(tmp_path):
    assert np.array_equal(unpack(pack([0, 1, 70_000])), [0, 1, 70_000])
    answers = KeptAnswers.of("d", [0, 1, 2], [0, 1, 1], [[0, 1, 2], [1, 1, 1]], positions=[9, 70_000, 4])
    assert (unpack(answers.right).tolist(), unpack(answers.zero_shot).tolist()) == ([1, 2, 1], [1, 1, 0])
    answers.save(tmp_path, "photo")
    assert KeptAnswers.load(tmp_path, "photo", "d") == answers
    assert KeptAnswers.load(tmp_path, "photo", "another cell") is None
    assert KeptAnswers.load(tmp_path, "sketch", "d") is None
    (tmp_path / "answers" / "photo.json").write_text("{")
    assert KeptAnswers.load(tmp_path, "photo", "d") is None
    with pytest.raises(ValueError, match="do not fit"):
        pack([-1])
    with pytest.raises(ValidationError, match="do not all hold 2 images"):
        KeptAnswers.of("d", [0, 1, 2], [0, 1, 2], [[0, 1, 2]], positions=[1, 2])


def test_a_result_of_another_format_is_named_and_its_cell_run_anew(plan, tmp_path):
    folder, cell = ResultsFolder(tmp_path), plan.cell("fedclip", "photo", 3, 0)
    folder.save(cell, sample_result(cell))
    file = folder.cell_file(cell)
    file.write_text(file.read_text().replace('"format_version":2', '"format_version":1'))
    with pytest.raises(RunFolderError, match=r"has format 1, and this version of fedclip reads format 2: .* run anew"):
        folder.load(cell)


def test_a_result_whose_parts_do_not_belong_together_is_refused(plan):
    plain = sample_result(plan.cell("fedclip", "photo", 3, 0)).model_dump()
    for change in (
        {"target": None},
        {"target_accuracy": None},
        {"counts": {}},
        {"drawn": None},
        {"format_version": 1},
        {"more": 1},
    ):
        with pytest.raises(ValidationError):
            CellResult.model_validate(plain | change)
    plain["curve"]["bytes"] = plain["curve"]["bytes"][1:]
    with pytest.raises(ValidationError, match="not equally long"):
        CellResult.model_validate(plain)
