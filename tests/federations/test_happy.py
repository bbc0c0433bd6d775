"""A federation of four ranks that goes well: everything it says and leaves behind."""

import json
import re

import pytest

from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import load_adapter

SILOS = ["art_painting", "cartoon", "photo"]
LINE = {
    *("round", "silos", "train_loss", "validation", "test", "target", "answered", "dropped"),
    *("bytes_up", "bytes_down", "seconds", "best_round"),
}

LOSSES = {
    "art_painting": [2.552375, 2.468903, 2.343832],
    "cartoon": [2.399588, 2.242917, 2.106772],
    "photo": [1.993855, 1.902106, 1.814416],
}
"""Train loss of each round. They change with drawings, backbone and training: copy them from the failing test then."""


def test_it_says_what_it_does(happy):
    assert happy.code == 0, happy.err
    assert [line.split()[1] for line in happy.rounds] == ["1/3", "2/3", "3/3"]
    for line in happy.rounds:
        assert re.search(r"3 of 3 silos +loss \d\.\d{4} +validation \d+\.\d +test \d+\.\d +target \d+\.\d", line)
    table = happy.out.split("accuracy in %")[1]
    assert table.split("\n")[0].split() == [*SILOS, "sources", "target", "sketch"]
    assert re.search(r"^zero-shot CLIP +(\d+\.\d +){4}\d+\.\d$", table, re.MULTILINE)
    assert re.search(r"^FedCLIP, best round \d ", table, re.MULTILINE)
    assert re.search(r"^FedCLIP, last round 3 ", table, re.MULTILINE)
    assert str(happy.folder.adapters / "best") in happy.out
    assert "Traceback" not in happy.err


def test_metrics_hold_one_line_a_round(happy):
    lines = happy.lines
    assert [line.round for line in lines] == [0, 1, 2, 3]
    for text in happy.folder.metrics.read_text().splitlines():
        assert json.loads(text).keys() >= LINE
    for line in lines:
        assert list(line.silos) == SILOS
        assert line.dropped == {}
        for silo in line.silos.values():
            assert 0 <= silo.validation <= 1
            assert 0 <= silo.test <= 1
            assert silo.images == {"validation": 16, "test": 16}
        assert (line.train_loss is None) == (line.round == 0)
    adapter = 2 * (128**2 + 128) * 4
    for line in lines[1:]:
        assert list(line.answered) == SILOS
        assert 3 * adapter < line.bytes_up < 3.2 * adapter
        assert 3 * adapter < line.bytes_down < 3.2 * adapter
        assert line.seconds.keys() >= {"train", "evaluate", "aggregate", "target", "exchange", "round"}
    assert lines[0].zero_shot_target > 0.3
    assert lines[0].images_target == 84
    scores = [line.validation for line in lines[1:]]
    assert lines[-1].best_round == 1 + scores.index(max(scores))
    assert lines[-1].train_loss < lines[1].train_loss


def test_the_losses_are_the_expected_ones(happy):
    found = {name: [round(line.silos[name].train_loss, 6) for line in happy.lines[1:]] for name in SILOS}
    for name in SILOS:
        assert found[name] == pytest.approx(LOSSES[name], rel=1e-4), found


def test_adapters_are_on_disk(happy):
    folder = happy.folder.adapters
    best = happy.lines[-1].best_round
    assert (folder / "best").resolve().name == f"round_{best:04d}"
    assert (folder / "final").resolve().name == "round_0003"
    assert {f"round_{number:04d}" for number in (1, 2, 3)} <= {path.name for path in folder.iterdir()}
    final = load_adapter(folder / "final")
    assert final.round == 3
    assert final.text_features.shape == (7, 128)
    assert {name: array.shape for name, array in final.tensors.items()} == {
        **{"hidden.weight": (128, 128), "hidden.bias": (128,)},
        **{"gate.weight": (128, 128), "gate.bias": (128,)},
    }


def test_the_recipe_in_the_run_folder_loads_again(happy, happy_recipe):
    kept = load_recipe(happy.folder.recipe)
    assert kept == load_recipe(happy_recipe)
    assert load_adapter(happy.folder.adapters / "final").recipe_digest == kept.digest() == happy.folder.read_digest()
    head = happy.folder.recipe.read_text().split("\n\n")[0]
    for word in ("seed: 0", "code: ", "fedml 0.9.6", "torch "):
        assert word in head


def test_each_rank_has_its_log(happy):
    for rank in range(4):
        assert "round" in happy.log(rank)
