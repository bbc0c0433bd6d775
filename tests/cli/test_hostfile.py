"""A hostfile without room for all ranks is refused before any of them starts; Open MPI would misplace them."""

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.hostfile import Host, read_hostfile, require_slots
from fedclip_plugin.errors import FedClipError


@pytest.fixture
def hosts(tmp_path):
    return tmp_path / "hosts"


def test_hosts_are_read_as_open_mpi_reads_them(hosts):
    hosts.write_text(
        "# ours\nhead slots=1  # the server\n\n  north\tslots = 2 max-slots=4\nsouth slots=4 max_slots=2\neast\n"
    )
    assert read_hostfile(hosts) == [Host("head", 1), Host("north", 2), Host("south", 2), Host("east", None)]
    hosts.write_text("head\nnorth\nnorth\n")
    assert read_hostfile(hosts) == [Host("head", None), Host("north", 2)]


def test_it_is_told_which_rank_runs_where(hosts):
    hosts.write_text("head slots=1\nnorth slots=2\nsouth slots=9\n")
    assert require_slots(hosts, 4) == "ranks by host: 0 head, 1 north, 2 north, 3 south"
    hosts.write_text("head slots=1\nnorth\n")
    assert require_slots(hosts, 4).startswith(f"note: {hosts} gives no slots= for north, which then take")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "head slots=1\nnorth slots=2\n",
            r"has 3 slots \(head 1, north 2\), and the job has 4 ranks, the server",
        ),
        ("head slots=9 max_slots=3\n", r"has 3 slots \(head 3\), and the job has 4 ranks"),
        ("# nobody\n", "names no host: write one line a host"),
        ("head slots=x\n", "line 1: slots=x: write slots= and a number of at least 1"),
        ("head\nnorth slots 2\n", "line 2: slots: write slots= and a number of at least 1"),
        ("head slots=0\n", "line 1: slots=0: write slots="),
        ("head slots=2\nhead slots=2\n", "line 2: head is named again: write all its slots= on one line"),
    ],
)
def test_a_hostfile_without_room_is_refused(hosts, text, told):
    hosts.write_text(text)
    with pytest.raises(FedClipError, match=told):
        require_slots(hosts, 4)


def test_launch_refuses_it_before_anything_starts(hosts, monkeypatch, capsys):
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", lambda *command: pytest.fail("mpirun was started"))
    words = ["launch", "miniature/clip_tiny_fedclip", "--hostfile", str(hosts)]
    assert main(words) == 2
    assert f"hostfile {hosts} does not exist: write one line a host" in capsys.readouterr().err
    hosts.write_text("head slots=1\n")
    assert main(words) == 2
    assert "add the hosts that lack, or raise slots=" in capsys.readouterr().err
    hosts.write_bytes(b"\xff\xfe")
    assert main(words) == 2
    assert "cannot be read (it is no text)" in capsys.readouterr().err
