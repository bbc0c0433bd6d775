"""What a resumed run needs besides adapters: whole or not at all, checked when read, and kept as long as needed."""

import json
import os

import numpy as np
import pytest

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs.state import StateSeries, load_state, save_state

ARRAYS = {
    "residual.gate.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "residual.logit_scale": np.float32(4.6).reshape(()),
    "optimizer.gate.weight:v": np.ones((3, 2), np.float64),
}


def same(found, given):
    return found.keys() == given.keys() and all(
        found[name].dtype == array.dtype and found[name].shape == array.shape and np.array_equal(found[name], array)
        for name, array in given.items()
    )


@pytest.mark.parametrize("arrays", [ARRAYS, {}], ids=["some", "none"])
def test_a_state_comes_back_as_it_was(tmp_path, arrays):
    save_state(tmp_path / "state", arrays)
    assert same(load_state(tmp_path / "state"), arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def newer(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))


def replaced(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("state.safetensors", cut, "truncated or altered"),
        ("state.safetensors", flip, "truncated or altered"),
        ("state.safetensors", replaced(""), "truncated or altered"),
        ("state.safetensors", os.unlink, "cannot be read"),
        ("state.json", cut, "cannot be read"),
        ("state.json", os.unlink, "cannot be read"),
        ("state.json", replaced("[1]"), "cannot be read"),
        ("state.json", replaced("{}"), "cannot be read"),
        ("state.json", replaced('{"format_version": 1, "sha256": null}'), "truncated or altered"),
        ("state.json", newer, "format 99; this version reads format 1: update"),
    ],
)
def test_a_harmed_state_is_refused(tmp_path, file, harm, message):
    save_state(tmp_path / "state", ARRAYS)
    harm(tmp_path / "state" / file)
    with pytest.raises(RunFolderError, match=message) as caught:
        load_state(tmp_path / "state")
    assert str(tmp_path / "state") in str(caught.value)


def numbered(number):
    return {"value": np.array([number])}


def series(path, *rounds):
    made = StateSeries(path / "state")
    made.begin(0)
    for number in rounds:
        made.save(number, numbered(number))
    return made


def rounds(made):
    return sorted(path.name for path in made.path.iterdir())


@pytest.mark.parametrize(
    ("asked", "found"), [(0, None), (1, None), (2, 2), (3, 3), (4, 3), (6, 3), (7, 7), (99999, 10002)]
)
def test_the_newest_state_of_a_round_or_before_is_found(tmp_path, asked, found):
    """A silo that was not drawn has no state of that round: the one before still holds."""
    state = series(tmp_path, 10002, 3, 2, 7).load(asked)
    assert state == (None if found is None else numbered(found))


def test_what_the_last_complete_round_needs_is_never_dropped(tmp_path):
    made = series(tmp_path, 2, 3, 6, 8, 9)
    for complete, left in ((1, [2, 3, 6, 8, 9]), (2, [2, 3, 6, 8, 9]), (5, [3, 6, 8, 9]), (8, [8, 9]), (20, [9])):
        before = made.load(complete)
        made.drop_before(complete)
        assert rounds(made) == [f"round_{number:04d}" for number in left]
        assert made.load(complete) == before


def test_a_resumed_run_forgets_what_came_after_the_last_complete_round(tmp_path):
    made = series(tmp_path, 1, 2, 3, 4)
    torn = made.path / ".round_0005.99.tmp"
    torn.mkdir()
    (torn / "state.json").write_text("{")
    made.begin(2)
    assert rounds(made) == ["round_0001", "round_0002"]
    made.begin(0)
    assert rounds(made) == [], "a fresh run begins with nothing"


def test_a_state_is_written_over(tmp_path):
    made = series(tmp_path, 1)
    made.save(1, numbered(5))
    assert made.load(1) == numbered(5)
