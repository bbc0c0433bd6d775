"""Simulations under mpirun: the same bytes for any number of workers, killed and resumed too."""

import pytest

from tests.support.paths import FEDERATIONS
from tests.support.workshop import LAUNCH, results

CHANGES = {
    "common_args__training_type": "simulation",
    "train_args__client_num_in_total": 12,
    "train_args__client_num_per_round": 6,
    "data_args__partition_method": "homo",
    "fedclip_args__silos_per_domain": 4,
    "fedclip_args__codec": "int8",
}


@pytest.fixture(scope="module")
def in_one_process(workshop):
    """Return the simulation that no worker helped with."""
    return workshop.run_here(workshop.recipe("simulation_sp", **CHANGES, comm_args__backend="sp"))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_ends_with_the_same_bytes(workshop, in_one_process, workers):
    recipe = workshop.recipe(f"simulation_{workers}", **CHANGES, device_args__worker_num=workers)
    outcome = workshop.run(recipe, program=LAUNCH)
    assert outcome.code == 0, outcome.err
    assert f"12 clients, 6 a round, simulated under FedML on {workers} workers over MPI" in outcome.out
    for name in ("best", "final"):
        assert outcome.adapter_bytes(name) == in_one_process.adapter_bytes(name)
    assert results(outcome.lines) == results(in_one_process.lines)


def test_a_killed_worker_ends_the_job_and_the_resumed_run_has_the_same_bytes(workshop, in_one_process):
    recipe = workshop.recipe("simulation_killed", **CHANGES)  # as many workers as mpirun starts
    killed = workshop.sabotage(recipe, "kill,round=3,rank=1", ranks=3)
    assert killed.code == 137
    assert "is complete and safe" in killed.err
    assert [line.round for line in killed.lines] == [0, 1], "workers report on a round with their next answer"
    resumed = workshop.run(recipe, "--resume", run=killed.folder.path, ranks=4)
    assert resumed.code == 0, resumed.err
    assert resumed.adapter_bytes("final") == in_one_process.adapter_bytes("final")
    assert results(resumed.lines) == results(in_one_process.lines)


def test_too_many_ranks_are_refused(workshop):
    recipe = workshop.recipe("simulation_ranks", **CHANGES)
    outcome = workshop.run(recipe, ranks=8)
    assert outcome.code == 2
    assert "mpirun started 8 ranks; with client_num_per_round 6 at most 7 have work" in outcome.err


def test_a_main_of_one_s_own_simulates_under_fedml_s_runner_and_under_ours(workshop):
    """FedML's own simulator trains by the pair, without scores; ours ends as a launched simulation does."""
    changes = CHANGES | {"fedclip_args__codec": None, "train_args__federated_optimizer": "FedAvg_seq"}
    main = str(FEDERATIONS / "plain_simulation_main.py"), "--cf"
    here = workshop.run_here(workshop.recipe("simulation_seq", **changes, comm_args__backend="sp"))
    for name, env in (("plain", {}), ("ours", {"OURS": "1"})):
        run = workshop.place / "runs" / f"simulation_{name}"
        recipe = workshop.recipe(f"simulation_{name}", **changes, fedclip_args__run_dir=str(run))
        outcome = workshop.run(recipe, program=main, ranks=3, env=env, run=run)
        assert outcome.code == 0, outcome.err
        assert (outcome.folder.adapters / "final" / "adapter.safetensors").is_file()
        if name == "ours":
            assert outcome.adapter_bytes("final") == here.adapter_bytes("final")
            assert results(outcome.lines) == results(here.lines)
        else:
            assert outcome.lines == []
