"""Silos that are left out of a job under mpirun, by hand and where ``--keep-going`` finds that they are gone."""

import os
import signal
import subprocess

import pytest

from tests.support.hosts import NETWORK, Hosts, why_not
from tests.support.launched import Launched
from tests.support.workshop import LAUNCH

GONE = "cartoon"


@pytest.fixture(scope="module")
def recipe(workshop):
    return workshop.recipe("quorum", fedclip_args__min_silos=2, fedclip_args__codec="int8")


def test_a_silo_is_left_out_by_hand_and_all_else_is_as_in_one_process(workshop, recipe, fedml_of_the_session):
    run = workshop.place / "runs" / "by_hand"
    done = workshop.run(recipe, "--without", GONE, run=run, program=LAUNCH)
    assert done.code == 0, done.err
    assert " -np 3 " in done.out and f"without {GONE}: rounds are made by the other 2 of 3 silos" in done.out
    assert {line.without for line in done.lines} == {(GONE,)}
    here = workshop.run_here(recipe, workshop.place / "runs" / "by_hand_here", without=[GONE])
    assert done.adapter_bytes("final") == here.adapter_bytes("final")
    names = {f"rank_{number}.log" for number in (0, 1, 3)}
    assert {log.name for log in (run / "logs").iterdir()} == names, "a silo's files go by its place among all"


def test_a_job_that_loses_one_silo_and_then_another_comes_to_its_end(workshop, recipe, fedml_of_the_session):
    run, rounds = workshop.place / "runs" / "kept_going", 60
    sets = {"train_args.comm_round": rounds, "fedclip_args.round_timeout": 4, "fedclip_args.min_silos": 1}
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    job = Launched(recipe, run, "--keep-going", *words)
    job.wait_until(lambda: job.rounds() >= 3)
    killed = job.send(2, signal.SIGKILL)
    job.wait_until(lambda: "goes on without" in job.text())
    before = job.rounds()
    job.wait_until(lambda: job.rounds() >= before + 3)
    frozen = job.send(2, signal.SIGSTOP)
    assert job.end() == 0, job.text()
    assert not killed.is_running() and not frozen.is_running()

    told, lines = job.text(), job.folder.rounds()
    first, second = (next(line.round for line in lines if name in line.without) - 1 for name in (GONE, "photo"))
    assert [line.round for line in lines] == list(range(rounds + 1)) and 3 <= first < second < rounds
    assert [line.without for line in lines[first + 1 :]] == (
        [(GONE,)] * (second - first) + [(GONE, "photo")] * (rounds - second)
    )
    assert f"{GONE} was ended by signal 9: the job goes on without, after round {first}" in told
    assert f"photo stayed silent: the job goes on without, after round {second}" in told
    assert f"fedclip: the job came to its end without {GONE}, photo" in told
    assert "process rank 2" in told, "what mpirun says of it stays"

    hand, least = workshop.place / "runs" / "kept_going_by_hand", {"fedclip_args__min_silos": 1}
    workshop.run_here(recipe, hand, train_args__comm_round=first)
    workshop.run_here(recipe, hand, resume=True, without=[GONE], train_args__comm_round=second, **least)
    left = [GONE, "photo"]
    by_hand = workshop.run_here(recipe, hand, resume=True, without=left, train_args__comm_round=rounds, **least)
    final = (job.folder.adapters / "final" / "adapter.safetensors").read_bytes()
    assert final == by_hand.adapter_bytes("final")

    back = workshop.run_here(recipe, run, resume=True, train_args__comm_round=rounds + 1)
    assert back.lines[-1].without == () and len(back.lines[-1].answered) == 3


class TestHosts:
    """Four hosts, which are network namespaces of this machine."""

    @pytest.fixture(scope="class")
    def hosts(self, tmp_path_factory):
        found = Hosts(4, tmp_path_factory.mktemp("hosts"))
        try:
            found.up()
            subprocess.run([*found.on(1), "true"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            found.down()
            pytest.skip(why_not(error))
        yield found
        found.end_processes()
        found.down()

    @pytest.fixture
    def launch(self, hosts, workshop, recipe, tmp_path):
        """Return a function that starts the job on the hosts, and waits for its first rounds."""

        def start(name, rounds, **sets):
            hostfile = tmp_path / "hosts"
            hostfile.write_text("".join(f"{hosts.address(number)} slots=1\n" for number in (1, 2, 3, 4)))
            keys = {"train_args.comm_round": rounds, "fedclip_args.min_silos": 1} | sets
            words = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
            own = ("--mca", "btl_tcp_if_include", f"{NETWORK}.0/24", "--prtemca", "plm_ssh_agent", hosts.agent)
            words = ("--keep-going", "--hostfile", hostfile, *words, "--", *own)
            run, home = workshop.place / "runs" / name, {"HOME": os.environ.get("HOME", "/")}
            job = Launched(recipe, run, *words, wrap=hosts.on(1), env=home)
            job.wait_until(lambda: job.rounds() >= 2)
            return job

        return start

    def test_a_rank_that_dies_and_a_host_that_is_lost_are_left_out(self, launch, hosts, workshop, recipe):
        job = launch("lost_host", 60)
        job.send(2, signal.SIGKILL)
        job.wait_until(lambda: "goes on without" in job.text())
        before = job.rounds()
        job.wait_until(lambda: job.rounds() >= before + 2)
        hosts.end_processes(4)
        assert job.end() == 0, job.text()
        told, lines = job.text(), job.folder.rounds()
        assert f"{GONE} was ended by signal 9: the job goes on without" in told
        assert f"photo was on host {hosts.prefix}4: the job goes on without" in told
        assert f"ranks by host: 0 {hosts.address(1)}, 1 {hosts.address(2)}\n" in told, "silos stay on their hosts"
        assert "the job came to its end without cartoon, photo" in told and "Rank 0 is not bound" not in told
        assert [line.round for line in lines] == list(range(61)) and lines[-1].without == (GONE, "photo")

        hand, least = workshop.place / "runs" / "lost_host_by_hand", {"fedclip_args__min_silos": 1}
        first, second = (next(line.round for line in lines if name in line.without) - 1 for name in (GONE, "photo"))
        workshop.run_here(recipe, hand, train_args__comm_round=first)
        workshop.run_here(recipe, hand, resume=True, without=[GONE], train_args__comm_round=second, **least)
        left = [GONE, "photo"]
        by_hand = workshop.run_here(recipe, hand, resume=True, without=left, train_args__comm_round=60, **least)
        final = (job.folder.adapters / "final" / "adapter.safetensors").read_bytes()
        assert final == by_hand.adapter_bytes("final")

    def test_a_host_that_is_cut_off_does_not_hold_the_job(self, launch, hosts):
        job = launch("cut_off", 40, **{"fedclip_args.round_timeout": 4})
        hosts.cut_off(3)
        assert job.end() == 0, job.text()
        assert "mpirun has not ended 20 s after the job, as a host does not answer" in job.text()
        assert f"{GONE} stayed silent: the job goes on without" in job.text()
        assert job.folder.rounds()[-1].without == (GONE,)
