"""The page of a run: what it shows, what it says where something is missing, and what it refuses."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.features import FeatureSource
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import create_adapter
from fedclip_plugin.methods.create import frozen_of
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.report.console import Console
from fedclip_plugin.report.page import Page, Section, Table
from fedclip_plugin.report.run.round_arrays import RoundArrays
from fedclip_plugin.report.run.run_page import _summary, run_page
from fedclip_plugin.report.run.target_section import TITLE, answer_target
from fedclip_plugin.runs import RoundRecord, RunFolder, SavedAdapter
from fedclip_plugin.runs.provenance import recipe_text
from fedclip_plugin.runs.silo_scores import zero_shot_mean
from tests.support.page_reader import Reader

CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
SILOS = ("art_painting", "cartoon", "photo")
FIGURES = {
    *("accuracy_by_round", "loss_by_round", "accuracy_by_cost", "time_by_phase"),
    *("confusion", "reliability", "samples"),
}


def line(number, best, **changes):
    def silo(index):
        found = {
            "train_loss": None if number == 0 else 2.0 - 0.1 * number,
            "validation": 0.7 + 0.01 * number,
            "test": 0.6 + 0.01 * number + 0.02 * index,
            "images": {"validation": 16, "test": 17},
        }
        return found | ({"zero_shot": {"validation": 0.71, "test": 0.65}} if number == 0 else {})

    own = {
        "round": number,
        "silos": {name: silo(index) for index, name in enumerate(SILOS)},
        "train_loss": None if number == 0 else 2.0 - 0.1 * number,
        "validation": 0.7 + 0.01 * number,
        "test": 0.62 + 0.01 * number,
        "answered": list(SILOS) if number else [],
        "dropped": {},
        "bytes_up": 1000 * (number > 0),
        "bytes_down": 1000 * (number > 0),
        "seconds": {"train": 0.02, "evaluate": 0.01, "aggregate": 0.001, "exchange": 0.005, "round": 0.036},
        "target": 0.5 + 0.01 * number,
        "best_round": best,
    }
    return own | ({"zero_shot_target": 0.55, "images_target": 84} if number == 0 else {}) | changes


def make_run(place, workshop, lines, *overrides):
    """Write a run folder with the miniature's recipe, an untrained adapter as the best one, and some lines."""
    settings = [
        *("fedclip_args.images_per_class=12", "train_args.comm_round=2"),
        f"data_args.data_cache_dir={workshop.data}",
        f"fedclip_args.feature_cache_dir={workshop.features}",
    ]
    recipe = load_recipe("recipes/miniature/clip_tiny_fedclip.yaml", [*settings, *overrides])
    folder = RunFolder(place / "run")
    folder.prepare(recipe_text(recipe), recipe.digest(), 0, resume=False)
    folder.save_round(untrained(recipe))
    for one in lines:
        folder.complete_round(RoundRecord.model_validate(one), keep=3)
    return folder


def untrained(recipe):
    settings = recipe.fedclip_args
    source = FeatureSource(settings.backbone, torch.device("cpu"), "fp32", settings.feature_cache_dir, 0, 2)
    text = source.text(CLASSES, settings.prompt_template)
    facts = (settings.backbone, source.fingerprint, "fp32", CLASSES, settings.prompt_template)
    task = Task(settings.method, *facts, text, recipe.digest())
    empty = SavedAdapter(
        *(settings.method, text.features.shape[1], *facts[:3], text.logit_scale, *facts[3:], 1, "d"),
        *(text.features.numpy(), {}),
    )
    return task.saved(1, create_adapter(settings.method, frozen_of(empty), seed=0), {})


@pytest.fixture(scope="module")
def run(tmp_path_factory, workshop):
    """A run of two rounds whose recorded accuracy is the one that its adapter has."""
    place = tmp_path_factory.mktemp("report")
    folder = make_run(place / "first", workshop, [line(0, 0), line(1, 1)])
    answers = answer_target(load_recipe(folder.recipe), folder)
    truth = answers.selected.score.accuracy
    return make_run(place / "run", workshop, [line(0, 0), line(1, 1, target=truth), line(2, 1)])


@pytest.fixture(scope="module")
def page(run):
    assert main(["report", str(run.path)]) == 0
    return (run.path / "report" / "index.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_else(run, page):
    found = Reader(page)
    assert {file.name for file in (run.path / "report").iterdir()} == {
        "index.html",
        *(f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png")),
    }
    assert len(found.images) == len(FIGURES)
    assert all(source.startswith("data:image/svg+xml;base64,") and alt for source, alt in found.images)
    assert len(set(found.ids)) == len(found.ids)
    assert found.links == [f"#{name}" for name in found.ids], "the table of contents names every section"
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(|@import""", page)


def test_the_page_says_what_was_measured(page):
    text = re.sub(r"<[^>]+>", " ", page)
    for told in ("zero-shot CLIP", "FedCLIP, best round 1", "FedCLIP, last round 2", "target sketch", "55.0"):
        assert told in text
    assert "The 84 images of sketch, labelled on this machine" in text
    assert "as the run itself measured it" in text
    assert "art_painting 16 and 17" in text
    assert "random_seed: 0" in text
    assert re.search(r"versions\s+python 3", text)
    assert "not complete" not in text


def test_the_same_run_gives_the_same_bytes(run, page):
    folder = run.path / "report"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert main(["report", str(run.path)]) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.fixture
def parts_of(unsettled):
    """Return a function that gives a page's sections by title, their notes as one text, and the figures' names."""

    def look(folder):
        page = run_page(load_recipe(folder.recipe), folder)
        notes = "\n".join(note for section in page.sections for note in section.notes)
        names = {picture.name for section in page.sections for picture in section.pictures}
        return {section.title: section for section in page.sections}, notes, names

    return look


def test_what_the_run_measured_and_what_is_found_now_are_told_apart(tmp_path, workshop, parts_of):
    parts, notes, _ = parts_of(make_run(tmp_path, workshop, [line(0, 0), line(1, 1, target=1.0)]))
    assert "the run itself measured 100.0 %: other images, or another kind of machine" in parts[TITLE].text[0]
    assert "This run is not complete: 1 of 2 rounds are done." in notes


def test_without_the_images_the_rest_is_still_there(tmp_path, workshop, parts_of):
    elsewhere = (
        *("data_args.dataset=own", "fedclip_args.data_root=/no/such/folder"),
        *("fedclip_args.images_per_class=null", "fedclip_args.difficulty=null"),
    )
    _, notes, figures = parts_of(make_run(tmp_path, workshop, [line(0, 0), line(1, 1), line(2, 1)], *elsewhere))
    assert figures == FIGURES - {"confusion", "reliability", "samples"}
    assert re.search(r"could not be worked out on this machine: .*/no/such/folder", notes)


def test_with_an_altered_adapter_the_rest_is_still_there(tmp_path, workshop, parts_of):
    folder = make_run(tmp_path, workshop, [line(0, 0), line(1, 1)])
    weights = folder.adapters / "best" / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    _, notes, figures = parts_of(folder)
    assert "loss_by_round" in figures
    assert "checksum" in notes


def test_without_a_target_there_is_no_column_for_it(tmp_path, workshop, parts_of):
    lines = [line(0, 0, target=None), line(1, 1, target=None), line(2, 1, target=None)]
    del lines[0]["zero_shot_target"], lines[0]["images_target"]
    changes = ("fedclip_args.target_domain=null", "fedclip_args.domains=[art_painting, cartoon, photo]")
    parts, notes, figures = parts_of(make_run(tmp_path, workshop, lines, *changes))
    assert "This run held no target domain out" in notes
    assert figures == FIGURES - {"confusion", "reliability", "samples"}
    assert parts["Summary"].tables[0].head == ["accuracy in %", *SILOS, "sources"]
    measured = parts["What was measured where"].tables[0].rows
    assert not [cell for row in measured for cell in row if "target" in cell or "None" in cell]


def test_before_the_first_round_the_page_says_so(tmp_path, workshop, parts_of):
    _, notes, figures = parts_of(make_run(tmp_path, workshop, [line(0, 0)]))
    assert notes.count("No round is complete yet") == 2
    assert "No silo told of a training loss" in notes
    assert "0 of 2 rounds are done" in notes
    assert "accuracy_by_round" in figures


def test_where_nothing_was_averaged_no_global_adapter_is_shown(tmp_path, workshop, parts_of):
    lines = [line(0, 0), line(1, 1), line(2, 1)]
    for silo in lines[-1]["silos"].values():
        silo["personal"] = {"validation": 0.9, "test": 0.8}
    parts, notes, figures = parts_of(make_run(tmp_path, workshop, lines, "fedclip_args.federation=local"))
    assert "nothing was averaged" in notes
    assert "confusion" not in figures
    tuned = parts["Summary"].tables[0].rows[-1]
    assert tuned == ["FedCLIP, each silo's own", "80.0", "80.0", "80.0", "80.0", "-"]


def test_dropped_updates_and_rounds_without_a_test_are_told(tmp_path, workshop, parts_of):
    lines = [line(0, 0), line(1, 1, dropped={"photo": "not finite"}, target=None), line(2, 2)]
    _, notes, _ = parts_of(make_run(tmp_path, workshop, lines))
    assert "dropped as unusable: photo of round 1" in notes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[1].pop("silos"), r"line 2 is damaged \(silos: Field required\)"),
        (lambda lines: lines[1].update(target=1.5), r"line 2 is damaged \(target: .*less than or equal to 1"),
        (lambda lines: lines[1].update(bytes_up="many"), r"line 2 is damaged \(bytes_up: "),
        (lambda lines: lines[1]["silos"]["photo"].update(test=None), r"line 2 is damaged .*of all silos, or of none"),
        (lambda lines: lines[1]["silos"]["photo"].update(test=2), r"line 2 is damaged \(silos.photo.test: "),
        (lambda lines: lines.pop(1), r"line 2 is round 2 where round 1 belongs"),
        (lambda lines: lines[2]["silos"].pop("photo"), r"line 3 is of art_painting, cartoon; a round of "),
        (lambda lines: lines[2].update(best_round=7), r"does not hold round 7, the best one"),
        (lambda lines: lines.clear(), r"holds no complete round"),
    ],
)
def test_damaged_metrics_are_refused_with_line_and_key(tmp_path, change, told):
    lines = [line(0, 0), line(1, 1), line(2, 1)]
    change(lines)
    folder = RunFolder(tmp_path)
    folder.metrics.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    with pytest.raises(RunFolderError, match=told):
        RoundArrays.read(folder)


def test_a_line_that_is_no_json_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text(json.dumps(line(0, 0)) + "\n{torn\n" + json.dumps(line(1, 1)) + "\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match="line 2 is not JSON"):
        RoundArrays.read(folder)


def test_a_history_sums_what_was_spent(tmp_path):
    folder = RunFolder(tmp_path)
    lines = [line(0, 0), line(1, 1, target=None), line(2, 1)]
    folder.metrics.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    history = RoundArrays.read(folder)
    assert history.bytes_so_far().tolist() == [0, 2000, 4000]
    assert history.seconds_so_far().tolist() == pytest.approx([0.036, 0.072, 0.108])
    np.testing.assert_array_equal(history.column("target"), [0.5, np.nan, 0.52])
    assert history.phases() == ["train", "evaluate", "aggregate", "exchange"]
    assert zero_shot_mean(history.records, "test") == pytest.approx(0.65)
    assert history.selected.round == 1


def test_a_page_says_of_which_rounds_a_silo_was_left_out(tmp_path, workshop):
    lines = [line(number, min(number, 1)) for number in range(6)]
    for number in (2, 3, 5):
        lines[number] |= {"without": ["photo"], "silent": ["photo"]}
        lines[number]["silos"]["photo"] = {"train_loss": None, "validation": None, "test": None, "images": {}}
    folder = make_run(tmp_path, workshop, lines)
    section = _summary(RoundArrays.read(folder), load_recipe(folder.recipe), "FedCLIP")
    assert "Left out of the job: photo of rounds 2 to 3; photo of round 5." in section.notes


def test_a_page_tells_what_privacy_promises_and_which_loss_it_took(tmp_path, workshop):
    private = line(1, 1, delta=1e-5)
    private["silos"]["photo"] |= {"epsilon": 4.5}
    folder = make_run(tmp_path, workshop, [line(0, 0), private], "fedclip_args.dp_target_epsilon=8")
    recipe = load_recipe(folder.recipe)
    notes = _summary(RoundArrays.read(folder), recipe, "FedCLIP").notes
    (told,) = [note for note in notes if note.startswith("Differential privacy of each training image")]
    assert "epsilon 8 at most" in told
    assert told.endswith("the loss is the cross entropy of each image over all classes.")
    facts = dict(run_page(recipe, folder).facts)
    assert facts["differential privacy of a training image, largest of a silo"] == "epsilon 4.5, delta 1e-05"


def test_a_page_names_who_was_late_and_compares_the_others(tmp_path, workshop):
    late = line(2, 1, late=["photo"], silent=["photo"])
    late["silos"]["photo"] = {"train_loss": None, "validation": None, "test": None, "images": {}}
    folder = make_run(tmp_path, workshop, [line(0, 0), line(1, 1), late])
    section = _summary(RoundArrays.read(folder), load_recipe(folder.recipe), "FedCLIP")
    assert "Updates that came too late, or not at all: photo of round 2." in section.notes
    assert any(note.startswith("Not always there (-): photo;") for note in section.notes)
    last = section.tables[0].rows[-1]
    assert last[3] == "-"
    assert last[4] == "63.0", "the mean of art painting and cartoon"
    assert section.tables[0].rows[0][4] == "65.0"
    assert run_page(load_recipe(folder.recipe), folder).sections


def test_a_report_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"report cannot be written: Not a directory"):
        Page("title", "lead", [], []).write(tmp_path / "report")
    assert (tmp_path / "report").read_text() == "in the way"


def test_text_from_a_run_is_no_markup(tmp_path):
    section = Section("<b>bold</b>", ['5 < 6 & "7"'], tables=[Table(["<i>", "b"], [["<script>", "x"]])])
    text = Page("<title>", "lead", [], [section]).write(tmp_path / "report").read_text(encoding="utf-8")
    assert not {"script", "i", "b"} & set(Reader(text).tags)
    assert "5 &lt; 6 &amp;" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys, run):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no recipe.yaml" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["report"])
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(run.path), "--study", str(run.path)])


def test_no_figure_touches_the_state_that_pyplot_shares():
    code = (
        "import sys, fedclip_plugin.cli.run as run; light = 'matplotlib' in sys.modules; "
        "import fedclip_plugin.cli.report; print(light, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("validations", "said"),
    [
        ((0.65, 0.6), ["round 1, the best round, is 6.0 points", "round 2, the last round, is 11.0 points"]),
        ((0.75, 0.6), ["round 2, the last round, is 11.0 points"]),
        ((0.75, 0.72), []),
    ],
)
def test_a_round_below_zero_shot_on_its_own_validation_images_is_told(tmp_path, workshop, capsys, validations, said):
    lines = [line(0, 0), *(line(number, 1, validation=value) for number, value in enumerate(validations, 1))]
    folder = make_run(tmp_path, workshop, lines, "fedclip_args.target_domain=", "fedclip_args.domains=[a, b, c]")
    recipe = load_recipe(folder.recipe)
    Console(recipe, folder, on_training=lambda: None).finish()
    told = [text for text in capsys.readouterr().out.splitlines() if "it did not help" in text]
    assert [text.removeprefix("note: ")[: len(start)] for text, start in zip(told, said, strict=True)] == said
    notes = "\n".join(_summary(RoundArrays.read(folder), recipe, "FedCLIP").notes)
    assert [start for start in said if start[1:] not in notes] == []
    assert notes.count("it did not help") == len(said)
