"""TensorBoard: scalars that read back as they were written, and a clear word where it is not installed."""

import importlib.util

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.report.tensorboard import TensorBoard, require_tensorboard, scalars
from fedclip_plugin.runs import RoundRecord

SILO = {"train_loss": 2.0, "validation": 0.75, "test": 0.5, "images": {"validation": 4, "test": 4}}
LINE = RoundRecord.model_validate(
    {
        "round": 3,
        "silos": {"art": SILO, "photo": SILO | {"train_loss": None, "test": 0.25}},
        "train_loss": 2.0,
        "validation": 0.75,
        "test": 0.375,
        "target": 0.625,
        "answered": ["art"],
        "dropped": {},
        "bytes_up": 1000,
        "bytes_down": 2000,
        "seconds": {"train": 0.5, "exchange": 0.25, "round": 1.0},
        "best_round": 3,
    }
)


class Heard:
    """An observer that notes what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *words: self.told.append((name, *words))


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(scalar.step, scalar.value) for scalar in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_rounds_read_back_as_they_were_written_while_the_job_still_runs(tmp_path):
    board = TensorBoard(Heard(), tmp_path)
    board.begin(2, 0, torch.device("cpu"))
    board.round(LINE)
    board.round(LINE.model_copy(update={"round": 4, "target": None, "bytes_up": 500}))
    found = read(tmp_path)
    assert found["bytes/up"] == [(3, 1000.0), (4, 500.0)]
    assert found["test/target"] == [(3, 0.625)]
    assert found["loss/art"] == [(3, 2.0), (4, 2.0)]
    assert "loss/photo" not in found
    assert set(found) == {tag for tag, _ in scalars(LINE)}


def test_the_scalars_of_a_round_are_its_accuracies_losses_bytes_and_seconds():
    assert dict(scalars(LINE)) == {
        **{"validation/mean": 0.75, "validation/art": 0.75, "validation/photo": 0.75},
        **{"test/mean": 0.375, "test/art": 0.5, "test/photo": 0.25, "test/target": 0.625},
        **{"loss/mean": 2.0, "loss/art": 2.0, "bytes/up": 1000.0, "bytes/down": 2000.0},
        **{"seconds/train": 0.5, "seconds/exchange": 0.25, "seconds/round": 1.0},
    }


def test_the_other_observer_hears_everything(tmp_path):
    heard = Heard()
    board, device = TensorBoard(heard, tmp_path), torch.device("cpu")
    board.say("hello")
    board.begin(2, 1, device)
    board.train("task", 7)
    board.round(LINE)
    assert heard.told == [("say", "hello"), ("begin", 2, 1, device), ("train", "task", 7), ("round", LINE)]


def test_a_rank_that_hears_nothing_writes_nothing(tmp_path):
    TensorBoard(Heard(), tmp_path / "events").round(LINE)
    assert not (tmp_path / "events").exists()


def test_without_the_library_a_job_is_refused_before_it_starts(tmp_path, monkeypatch, capsys):
    require_tensorboard()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "tensorboard" else find(name))
    with pytest.raises(FedClipError, match="tensorboard is not installed"):
        require_tensorboard()
    words = ["launch", "miniature/clip_tiny_fedclip", "--run", str(tmp_path / "run")]
    assert main([*words, "--set", "tracking_args.enable_tensorboard=true"]) == 2
    assert "pip install 'fedclip-plugin[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
