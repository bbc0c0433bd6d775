"""A rank's log file: what cannot be written is said once, and training goes on."""

import logging
import os

import pytest

from fedclip_plugin.federated.startup.rank_log import log_to


@pytest.mark.parametrize("name", [b"logs", b"l\xf6gs", b"a\x1b[2J\nb"])
def test_a_log_that_cannot_be_written_is_said_once(tmp_path, capfd, name):
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "rank_1.log").symlink_to("/dev/full")
    with log_to(folder, 1):
        for number in range(30):
            logging.getLogger("fedml").warning("round %d", number)
    told = capfd.readouterr().err.splitlines()
    assert told[0].endswith("rank_1.log cannot be written any more: No space left on device")
    assert len(told) <= 2
    assert "Traceback" not in "".join(told)


def test_a_folder_that_holds_no_log_is_named(tmp_path, capfd):
    (tmp_path / "logs").write_text("a file")
    with log_to(tmp_path / "logs", 1):
        pass
    assert "rank 1 keeps no log in" in capfd.readouterr().err


@pytest.fixture(autouse=True)
def only_these_handlers():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
