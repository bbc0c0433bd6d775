"""WiSE-FT: the last round interpolates between zero-shot CLIP and what was trained; silos score, the server picks."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from fedclip_plugin.errors import FederationError, RunFolderError
from fedclip_plugin.methods import create_adapter, load_parameters, parameters_of
from fedclip_plugin.methods.lora_matrices import scaled
from fedclip_plugin.runs import load_adapter
from fedclip_plugin.runs.closing_table import round_text, summary_rows
from tests.support.in_process_federation import SILOS, WIDTH, Federation, silo_features
from tests.support.workshop import frozen, frozen_clip_tiny

GRID = (0.25, 0.5, 0.75, 1.0)

pytestmark = pytest.mark.usefixtures("fresh_fedml")


def federation(place, **changes):
    usual = {"method": "linear_probe", "wise": GRID, "learning_rate": 0.05}
    return Federation(place, **usual | changes)


@pytest.fixture
def straight(tmp_path):
    return federation(tmp_path / "straight").run()


def right_answers(run, share):
    """How many validation images of all silos the interpolation labels rightly."""
    start = parameters_of(create_adapter("linear_probe", frozen(WIDTH), 0))
    trained = torch.tensor(run.folder.load_round(3).tensors["rows"])
    probe, task = create_adapter("linear_probe", frozen(WIDTH), 0), run.silos[0]._driver.silo_trainer.task
    load_parameters(probe, {"rows": torch.lerp(start["rows"], trained, share)})
    return probe.rows.detach(), sum(task.score(probe, silo_features(rank).validation).correct for rank in (1, 2, 3))


def test_the_last_round_takes_the_share_that_validates_best(straight):
    tried = {share: right_answers(straight, share) for share in GRID}
    best = max(count for _, count in tried.values())
    wanted = min(share for share, (_, count) in tried.items() if count == best)
    assert [line.wise for line in straight.lines] == [None, None, None, None, wanted]
    assert straight.lines[-1].train_loss is None
    assert list(straight.lines[-1].answered) == list(SILOS)
    final = load_adapter(straight.folder.adapters / "final")
    assert np.array_equal(final.tensors["rows"], tried[wanted][0].numpy())
    assert final.metrics["wise"] == wanted
    assert straight.lines[-1].validation == pytest.approx(best / 30)
    assert len({count for _, count in tried.values()}) > 1, "else nothing was chosen"


def test_tables_and_console_tell_the_share(straight):
    share = f"wise {straight.lines[-1].wise:g}"
    assert summary_rows(straight.lines, "Probe")[-1][0] == f"Probe, last round 4 ({share})"
    assert f"  {share}  validation" in round_text(straight.lines[-1], 4, 3)


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_all_silos_score_though_some_are_sampled_and_updates_are_compressed(tmp_path, codec):
    run = federation(tmp_path / "sampled", silos_per_round=2, codec=codec).run()
    assert [len(line.answered) for line in run.lines] == [0, 2, 2, 2, 3]
    assert run.lines[-1].wise in GRID


def test_a_run_that_interpolated_is_not_trained_on(straight):
    records = straight.folder.rounds()
    straight.folder.require_rounds(records, 4)
    with pytest.raises(RunFolderError, match=r"ended with round 4, which interpolated .* for the 6 rounds"):
        straight.folder.require_rounds(records, 6)


def answer(*right):
    return 20, OrderedDict(right=torch.tensor(right))


def test_unusable_answers_are_dropped_and_ties_go_to_zero_shot(tmp_path):
    server = federation(tmp_path / "server", min_silos=1).server._aggregator
    counts = server.take_interpolations([answer(3, 5, 5, 1), answer(0, 0, 0, 11), answer(1.0, 2.0, 3.0, 4.0)])
    assert counts == [3, 5, 5, 1]
    assert "more right answers than validation images" in server.dropped["cartoon"]
    assert "float32" in server.dropped["photo"]
    server.interpolate(counts)
    assert server.share == 0.5


def test_too_few_answers_end_the_run(tmp_path):
    server = federation(tmp_path / "server").server._aggregator
    with pytest.raises(FederationError, match="2 usable updates, min_silos is 3"):
        server.take_interpolations([answer(3, 5, 5, 1), answer(0, 0, 0, 1), answer(-1, 0, 0, 0)])


def test_an_interpolation_is_a_straight_line_and_of_lora_a_share_of_the_products():
    probe = create_adapter("linear_probe", frozen(WIDTH), 0)
    start, end = {"rows": torch.ones(2)}, {"rows": torch.tensor([3.0, -1.0])}
    assert probe.interpolate(start, end, 0.25)["rows"].tolist() == [1.5, 0.5]
    assert torch.equal(probe.interpolate(start, end, 1.0)["rows"], end["rows"])
    lora = create_adapter("text_lora", frozen_clip_tiny(("dog", "cat")), 0)
    trained = {name: torch.ones_like(own) for name, own in parameters_of(lora).items()}
    found = lora.interpolate({}, trained, 0.5)
    assert found.keys() == scaled(trained, 0.5).keys() == trained.keys()
    assert {name.split(".")[-2]: float(own.mean()) for name, own in found.items()} == {"a": 1.0, "b": 0.5}
