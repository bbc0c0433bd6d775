"""A linear probe that starts from ridge: the first round is solved, later ones train, and the best of all is kept."""

import numpy as np
import pytest
import torch

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.methods import restore_adapter
from fedclip_plugin.methods.create import frozen_of
from fedclip_plugin.methods.linear_probe import RidgeProbe
from fedclip_plugin.runs import load_adapter
from fedclip_plugin.runs.adapter_header import header_fault
from fedclip_plugin.runs.closing_table import round_text
from tests.support.in_process_federation import SILOS, Federation, silo_features
from tests.support.workshop import results

pytestmark = pytest.mark.usefixtures("fresh_fedml")


def federation(place, **changes):
    usual = {"method": "linear_probe", "start": "ridge", "comm_round": 3, "learning_rate": 0.05}
    return Federation(place, target=silo_features(7).test, **usual | changes)


@pytest.fixture
def straight(tmp_path):
    return federation(tmp_path / "straight").run()


def test_the_first_round_is_that_of_ridge_and_the_others_train(straight, tmp_path):
    ridge = federation(tmp_path / "ridge", method="ridge", start="zero_shot", comm_round=1).run()
    first, alone = straight.folder.load_round(1), ridge.folder.load_round(1)
    assert {name: own.tobytes() for name, own in first.tensors.items()} == {
        name: own.tobytes() for name, own in alone.tensors.items()
    }
    assert results(straight.lines)[1] == results(ridge.lines)[1]
    assert straight.lines[1].solved is not None
    assert [line.solved for line in straight.lines if line.round != 1] == [None] * 3
    assert [line.train_loss is None for line in straight.lines] == [True, True, False, False]
    second = straight.folder.load_round(2)
    assert all(not np.array_equal(own, second.tensors[name]) for name, own in first.tensors.items())


def test_the_first_round_competes_for_the_best(tmp_path):
    run = federation(tmp_path / "run", learning_rate=1e-9).run()
    assert run.lines[-1].best_round == 1
    assert load_adapter(run.folder.adapters / "best").round == 1


def test_all_silos_take_part_in_the_first_round_and_in_one_that_interpolates(tmp_path):
    run = federation(tmp_path / "sampled", silos_per_round=2, wise=(0.5, 1.0)).run()
    assert [len(line.answered) for line in run.lines] == [0, 3, 2, 3]
    assert tuple(run.lines[1].answered) == SILOS
    assert run.lines[-1].wise in (0.5, 1.0)


def test_its_line_says_what_was_chosen(straight):
    solved = straight.lines[1].solved
    assert f"  penalty {solved.penalty:g} weight {solved.mix:g}  validation" in round_text(straight.lines[1], 3, 3)
    assert "  loss " in round_text(straight.lines[2], 3, 3)


def test_its_adapter_says_its_start_and_is_restored_to_the_same_answers(straight):
    saved = load_adapter(straight.folder.adapters / "final")
    adapter, text = restore_adapter(saved), frozen_of(saved).text
    assert (saved.method, saved.start, type(adapter)) == ("linear_probe", "ridge", RidgeProbe)
    images = torch.nn.functional.normalize(silo_features(1).test.features, dim=-1)
    wanted = saved.logit_scale * images @ torch.tensor(saved.class_features).T
    torch.testing.assert_close(adapter.logits(images, text), wanted)


def test_a_start_that_is_not_known_is_refused_by_name(straight):
    folder = straight.folder.adapters / "final"
    saved = load_adapter(folder)
    header = {name: getattr(saved, name) for name in ("method", "feature_dim", "backbone", "fingerprint", "precision")}
    header |= {name: getattr(saved, name) for name in ("logit_scale", "prompt_template", "round", "recipe_digest")}
    header |= {"classes": list(saved.classes), "metrics": {}, "start": "ridge"}
    assert header_fault(header) is None
    fault = header_fault(header | {"start": "magic"})
    assert fault == f"starts from {printable(repr('magic'))}, which method linear_probe does not know here: " + (
        "update fedclip-plugin"
    )
    assert "method fedclip does not know" in str(header_fault(header | {"method": "fedclip"}))
    with pytest.raises(AdapterFileError, match="truncated or altered"):
        (folder / "adapter.json").write_text((folder / "adapter.json").read_text().replace('"ridge"', '"zero_shot"'))
        load_adapter(folder)
