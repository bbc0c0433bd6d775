"""What a rank remembers is restored from disk as it was, or the run is refused."""

import shutil

import pytest
import torch

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.federated.managers.round_state import RoundState


class Part:
    """Remembers one number."""

    def __init__(self, value=0.0, remembers=True):
        self.value, self.remembers = value, remembers

    def state(self):
        return {} if self.value is None else {"layer.value": torch.tensor(self.value)}

    def load_state(self, tensors):
        self.value = float(tensors["layer.value"]) if tensors else None


def state_of(path, *values):
    parts = {name: Part(value) for name, value in zip(("residual", "optimizer"), values, strict=True)}
    return RoundState(path, **parts), parts


def values(parts):
    return [part.value for part in parts.values()]


def test_every_part_gets_back_its_own(tmp_path):
    first, parts = state_of(tmp_path / "state", 0.0, 0.0)
    first.begin(0)
    for number in (1, 2, 3):
        parts["residual"].value, parts["optimizer"].value = number, -number
        first.save(number)
    for done, expected in ((3, [3, -3]), (2, [2, -2])):
        again, parts = state_of(tmp_path / "state", 9.0, 9.0)
        again.begin(done)
        assert values(parts) == expected


def test_who_took_no_part_yet_remembers_nothing(tmp_path):
    first, _ = state_of(tmp_path / "state", 0.0, 0.0)
    first.begin(0)
    again, parts = state_of(tmp_path / "state", 9.0, 9.0)
    again.begin(4)
    assert values(parts) == [None, None]


def test_a_lost_state_is_refused_and_says_which(tmp_path):
    first, _ = state_of(tmp_path / "state", 0.0, 0.0)
    first.begin(0)
    shutil.rmtree(tmp_path / "state")
    again, _ = state_of(tmp_path / "state", 9.0, 9.0)
    with pytest.raises(RunFolderError, match=r"state holds nothing of round 4 or before.*begin a new run"):
        again.begin(4)


def test_old_states_are_dropped_and_the_needed_one_stays(tmp_path):
    first, parts = state_of(tmp_path / "state", 0.0, 0.0)
    first.begin(0)
    for number in (1, 2, 3):
        parts["residual"].value = number
        first.save(number)
    first.drop_before(2)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["round_0002", "round_0003"]
    first.begin(2)
    assert values(parts) == [2, 0]


def test_nothing_to_remember_leaves_nothing_on_disk(tmp_path):
    nothing = RoundState(tmp_path / "state", residual=Part(remembers=False))
    nothing.begin(0)
    nothing.save(1)
    nothing.drop_before(1)
    nothing.begin(1)
    assert list(tmp_path.iterdir()) == []
