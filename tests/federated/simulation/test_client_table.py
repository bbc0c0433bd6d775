"""What clients keep, on disk: the newest state counts, and a resumed run forgets what came after its round."""

import numpy as np
import pytest

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.federated.simulation.client_table import ClientTable


def state(number):
    return np.full(4, number, np.float32)


@pytest.fixture
def table(tmp_path):
    made = ClientTable(tmp_path / "clients", 5, 4)
    made.begin(0)
    return made


def test_a_client_has_its_newest_state(table):
    assert table.read(2) is None
    for number in (1, 2, 3, 7):
        table.write(2, number, state(number))
        assert np.array_equal(table.read(2), state(number))
    assert table.read(1) is None


def test_another_process_sees_what_was_written(table, tmp_path):
    table.write(0, 1, state(1))
    other = ClientTable(tmp_path / "clients", 5, 4)
    other.open()
    assert np.array_equal(other.read(0), state(1))


def test_a_resumed_run_goes_on_from_its_last_complete_round(table, tmp_path):
    for number in (1, 2, 3):  # two rounds more than are complete: as far as a killed job may have come
        table.write(0, number, state(number))
    table.write(1, 3, state(3))
    table.flush()
    again = ClientTable(tmp_path / "clients", 5, 4)
    again.begin(1)
    assert np.array_equal(again.read(0), state(1))
    assert again.read(1) is None


def test_a_half_written_state_does_not_count(table):
    table.write(3, 1, state(1))

    class Killed(Exception):
        pass

    class Rows:
        def __setitem__(self, place, values):
            raise Killed

        def __getitem__(self, place):
            return real[place]

    real, table._rows = table._rows, Rows()
    with pytest.raises(Killed):
        table.write(3, 2, state(2))
    table._rows = real
    assert np.array_equal(table.read(3), state(1))


def test_a_fresh_run_begins_empty(table, tmp_path):
    table.write(0, 1, state(1))
    again = ClientTable(tmp_path / "clients", 5, 4)
    again.begin(0)
    assert again.read(0) is None


def test_a_table_that_is_gone_is_said(tmp_path):
    with pytest.raises(RunFolderError, match="what the clients keep, is gone"):
        ClientTable(tmp_path / "clients", 5, 4).begin(3)


@pytest.mark.parametrize("name", ["rows.npy", "rounds.npy"])
@pytest.mark.parametrize("length", [0, 40, -4])
def test_a_table_that_is_cut_short_is_said_and_not_filled_up(table, tmp_path, name, length):
    table.write(0, 1, state(1))
    path = tmp_path / "clients" / name
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="is gone or damaged: restore it from a copy"):
        ClientTable(tmp_path / "clients", 5, 4).begin(1)
    assert path.read_bytes() == content


def test_room_is_asked_for_before(tmp_path):
    with pytest.raises(RunFolderError, match=r"what 10,000,000 clients keep takes .* are free"):
        ClientTable(tmp_path / "clients", 10_000_000, 10_000_000).begin(0)
