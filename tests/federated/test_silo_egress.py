"""A silo's rank looks for its machine's policy when a job begins, and says at the end what left."""

import json
import logging

import pytest

from fedclip_plugin.errors import FedClipError, PolicyError
from fedclip_plugin.federated.messages.exchange import Exchange, packed
from fedclip_plugin.federated.messages.leaving import current_egress, value_leaves
from fedclip_plugin.federated.startup import silo_egress
from fedclip_plugin.federated.startup.preflight import open_run
from fedclip_plugin.federated.startup.silo_egress import (
    asked_of,
    job_egress,
    plain_fault,
    policy_in_force,
    rank_egress,
)
from fedclip_plugin.federated.startup.start_messages import Present
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.trust import silo_policy
from fedclip_plugin.trust.audit import audit
from fedclip_plugin.trust.outgoing import Outgoing
from tests.support.mpi_world import World
from tests.support.policies import write_policy

SIMULATED = {
    "common_args__training_type": "simulation",
    "comm_args__backend": "sp",
    "train_args__client_num_in_total": 3,
}


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Name a policy by the variable, and return what writes it."""
    place = tmp_path / "silo_policy.yaml"
    monkeypatch.setenv("FEDCLIP_SILO_POLICY", str(place))
    monkeypatch.delenv("FEDCLIP_EGRESS_LOG", raising=False)
    return lambda **changes: write_policy(place, **changes)


@pytest.fixture
def none(tmp_path, monkeypatch):
    """Let this machine have no policy."""
    for name in ("FEDCLIP_SILO_POLICY", "FEDCLIP_EGRESS_LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(silo_policy, "MACHINE_PLACE", tmp_path / "etc.yaml")
    monkeypatch.setattr(silo_policy, "USER_PLACE", tmp_path / "home.yaml")


@pytest.fixture
def recipe(workshop):
    return load_recipe(workshop.recipe("egress"))


def shown(value):
    """Show a value as an exchange does before it sends it."""
    value_leaves(value, packed(value))


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("codec", "part"), [("none", 1), ("fp16", 2), ("int8", 4)])
def test_a_policy_is_asked_about_as_many_bytes_as_the_codec_leaves_of_an_update(workshop, codec, part):
    whole = asked_of(load_recipe(workshop.recipe("egress")), "demo")
    asked = asked_of(load_recipe(workshop.recipe("egress_packed", fedclip_args__codec=codec)), "demo")
    assert asked.update_bytes * part == whole.update_bytes > 10_000
    assert len(asked.fingerprint) == 64


@pytest.mark.usefixtures("none")
def test_without_a_policy_a_silo_sends_as_before_and_its_log_says_so_in_a_line(recipe, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "fedclip_plugin"), job_egress(None, recipe, tmp_path / "demo", 1) as fault:
        assert (fault, current_egress(), policy_in_force()) == (None, None, "")
    (line,) = [record.getMessage() for record in caplog.records if "policy" in record.getMessage()]
    places = f"FEDCLIP_SILO_POLICY, {tmp_path / 'etc.yaml'}, {tmp_path / 'home.yaml'}"
    assert line == f"no silo policy ({places}): the recipe alone says what leaves this machine"
    assert not (tmp_path / "demo").exists()


@pytest.mark.usefixtures("none")
def test_a_variable_alone_keeps_a_log_without_a_policy(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCLIP_EGRESS_LOG", str(tmp_path / "egress"))
    with job_egress(None, recipe, tmp_path / "demo", 2) as fault:
        assert fault is None
        shown(Present(recipe="d"))
    opening, message, _ = lines_of(tmp_path / "egress" / "demo_egress_2.jsonl")
    assert (opening["silo"], opening["policy"]) == ("cartoon", None)
    assert (opening["recipe"], message["kind"]) == (recipe.digest(), "Present")


def test_a_silo_sends_through_its_policy_and_says_at_the_end_what_left(policy, recipe, tmp_path, capfd):
    policy(runs=["demo"])
    with job_egress(None, recipe, tmp_path / "demo", 1) as fault:
        assert fault is None
        assert policy_in_force() == silo_policy.load_policy(tmp_path / "silo_policy.yaml").sha256
        shown(Present(recipe="d"))
    assert current_egress() is None
    path = tmp_path / "demo" / "logs" / "egress_1.jsonl"
    found = audit(path)
    assert found.verified
    (message,) = found.starts[0].messages
    left = f"1 message, {message['bytes']} bytes, last hash {found.last_hash}"
    assert f"fedclip: silo art_painting (rank 1): egress log {path}: {left}" in capfd.readouterr().err


def test_a_run_is_not_resumed_under_a_policy_without_the_log_of_its_earlier_starts(
    policy, recipe, tmp_path, monkeypatch
):
    policy()
    ended = []

    def end(comm, who, error):
        ended.append(who)
        raise error

    monkeypatch.setattr(silo_egress, "stop_job", end)
    with job_egress(None, recipe, tmp_path / "demo", 1):
        silo_egress.require_rest(None, "north (rank 1)", 0, 0)
        current_egress().leaving(Outgoing("report", [b"1"], 0))
    with job_egress(None, recipe, tmp_path / "demo", 1):
        silo_egress.require_rest(None, "north (rank 1)", 2, 2)
    monkeypatch.setenv("FEDCLIP_EGRESS_LOG", str(tmp_path / "elsewhere"))
    for _ in range(2):
        missing = pytest.raises(
            PolicyError, match=r"^the log of the earlier starts is missing: the silo has 2 complete rounds"
        )
        with missing, job_egress(None, recipe, tmp_path / "demo", 1):
            silo_egress.require_rest(None, "north (rank 1)", 2, 2)
    assert ended == ["north (rank 1), before it goes on after round 2"] * 2


@pytest.mark.parametrize(
    ("bound", "changes", "told"),
    [
        ({"max_rounds": 3}, {}, "2 to go, and 2 have left, each as often as it was trained; 3 may (max_rounds)"),
        ({"max_rounds": 4}, {}, ""),
        ({"max_rounds": 3}, {"fedclip_args__method": "linear_probe", "fedclip_args__wise": [0.5, 1.0]}, ""),
        ({"max_rounds": 3}, {"train_args__client_num_per_round": 2}, ""),
        ({"max_rounds": 3}, {"fedclip_args__dp_target_epsilon": 8.0}, ""),
        ({"max_bytes": 6_600_000}, {}, "bytes in all, with 6,500,000 that left; 6,600,000 may leave (max_bytes)"),
    ],
)
def test_a_run_is_not_resumed_for_more_than_its_policy_lets_out(
    policy, workshop, tmp_path, monkeypatch, bound, changes, told
):
    recipe = load_recipe(workshop.recipe("rest", **changes))
    policy(**bound)
    monkeypatch.setattr(silo_egress, "stop_job", lambda comm, who, error: ended.append((who, str(error))))
    ended = []
    with job_egress(None, recipe, tmp_path / "demo", 1) as fault:
        assert fault is None
        for size in (3_000_000, 3_500_000):
            current_egress().leaving(Outgoing("update", [bytes(size)], 1, epsilon=1.0, delta=1e-5))
    with job_egress(None, recipe, tmp_path / "demo", 1) as fault:
        assert fault is None
        silo_egress.require_rest(None, "north (rank 1)", 1, 1)
        if told:
            with pytest.raises(PolicyError, match="what is left to train of run demo"):
                current_egress().leaving(Outgoing("status", [b"1"]))
    assert [who for who, _ in ended] == (["north (rank 1), before it goes on after round 1"] if told else [])
    assert not told or told in ended[0][1]
    refused = [
        line["policy_keys"]
        for line in lines_of(tmp_path / "demo" / "logs" / "egress_1.jsonl")
        if line["entry"] == "refused"
    ]
    assert refused == ([list(bound)] if told else [])


def test_the_server_sends_through_nothing(policy, recipe, tmp_path):
    policy(max_rounds=1)
    with job_egress(None, recipe, tmp_path / "demo", 0) as fault:
        assert (fault, current_egress()) == (None, None)


@pytest.mark.parametrize("broken", [False, True])
def test_a_refusal_is_a_fault_of_the_first_card_and_nothing_else_leaves(policy, recipe, tmp_path, broken):
    place = policy(max_rounds=1)
    if broken:
        place.write_text("methods: [\n")
    with job_egress(None, recipe, tmp_path / "demo", 1) as fault:
        assert isinstance(fault, PolicyError)
        assert ("malformed YAML" if broken else "train_args.comm_round = 3: at most 1 (max_rounds)") in str(fault)
        shown(Present(fault="PolicyError"))
        with pytest.raises(PolicyError):
            shown(Present(recipe="d"))
    entries = lines_of(tmp_path / "demo" / "logs" / "egress_1.jsonl")
    kept = [] if broken else ["refused"]
    assert [entry["entry"] for entry in entries] == ["open", *kept, "message", "close"]


def test_a_study_is_checked_federation_by_federation_under_its_own_name(policy, recipe, workshop, tmp_path):
    policy(runs=["study"], max_rounds=3)
    with rank_egress(None, recipe, tmp_path / "study", 1):
        with job_egress(None, recipe, tmp_path / "study" / "runs" / "seed_0_point_0", 1) as fault:
            assert fault is None
        longer = load_recipe(workshop.recipe("egress_longer", train_args__comm_round=4, train_args__epochs=2))
        with job_egress(None, longer, tmp_path / "study" / "runs" / "seed_0_point_1", 1) as fault:
            assert "at most 3 (max_rounds)" in str(fault)
    entries = lines_of(tmp_path / "study" / "logs" / "egress_1.jsonl")
    assert [entry["entry"] for entry in entries] == ["open", "recipe", "refused", "close"]
    assert entries[1]["recipe"] == longer.digest()


def test_a_cell_whose_delta_the_cells_before_it_leave_no_room_for_is_refused_before_it_begins(
    policy, recipe, workshop, tmp_path
):
    policy(require_differential_privacy=True, max_epsilon=8.0, max_delta=2e-5)
    cells = [
        load_recipe(
            workshop.recipe(f"egress_{rate}", fedclip_args__dp_target_epsilon=2.0, train_args__learning_rate=rate)
        )
        for rate in (0.1, 0.2, 0.3)
    ]
    with rank_egress(None, recipe, tmp_path / "study", 1) as egress:
        for cell in cells[:2]:
            with job_egress(None, cell, tmp_path / "study" / "runs" / "cell", 1) as fault:
                assert fault is None
                egress.leaving(Outgoing("update", [b"1"], 1, epsilon=2.0, delta=1e-5, account=cell.digest()[:16]))
        with job_egress(None, cells[2], tmp_path / "study" / "runs" / "cell", 1) as fault:
            assert "dp_delta = 1e-05: at most 2e-05 in all, of which recipes before it have 2e-05" in str(fault)
    refused = [
        entry for entry in lines_of(tmp_path / "study" / "logs" / "egress_1.jsonl") if entry["entry"] == "refused"
    ]
    assert [(entry["what"], entry["policy_keys"]) for entry in refused] == [("recipe", ["max_delta"])]


def test_every_rank_hears_that_a_silo_refuses_but_not_why(recipe, tmp_path, capfd):
    world, why = World(4, ["a", "b", "c", "d"]), PolicyError("SILO POLICY: methods of /etc/secret")

    def act(comm):
        fault = why if comm.Get_rank() == 2 else None
        return open_run(comm, RunFolder(tmp_path / "run"), recipe, resume=False, fault=fault)

    server, *silos = world.together(act)
    assert isinstance(server, FedClipError)
    assert "1 of 4 ranks cannot start\n  cartoon: its silo policy refuses that, or cannot be used (PolicyError;" in str(
        server
    )
    assert "/etc/secret" not in str(server)
    assert {str(silo) for silo in silos} == {"the job cannot start: the server's console says why"}
    assert [content for sender, _, content in world.crossed if sender == 2] == [Present(fault="PolicyError")]
    assert "cartoon (rank 2): SILO POLICY: methods of /etc/secret" in capfd.readouterr().err


def test_a_log_that_cannot_be_written_ends_the_job_before_anything_is_sent(policy, recipe, tmp_path, monkeypatch):
    policy()
    (tmp_path / "demo").touch()
    ended = []

    def end(comm, who, error, code):
        ended.append((who, code))
        raise error

    monkeypatch.setattr(silo_egress, "stop_job", end)
    with pytest.raises(PolicyError, match="cannot be written"), job_egress(None, recipe, tmp_path / "demo", 1):
        raise AssertionError("nothing may be sent")
    assert ended == [("silo art_painting (rank 1), before round 1", 2)]


def test_in_one_process_a_recipe_is_refused_before_anything_is_drawn(policy, workshop, tmp_path):
    policy(max_rounds=2)
    recipe = workshop.recipe("egress_here")
    with pytest.raises(PolicyError, match=r"train_args.comm_round = 3: at most 2 \(max_rounds\)"):
        workshop.run_here(recipe)


def test_a_simulation_is_checked_once_and_keeps_no_log(policy, workshop, tmp_path):
    policy(methods=["fedclip"])
    simulated = load_recipe(workshop.recipe("egress_simulated", **SIMULATED))
    with job_egress(None, simulated, tmp_path / "demo", 0) as fault:
        assert (fault, current_egress()) == (None, None)
    policy(methods=["ridge"])
    with pytest.raises(PolicyError, match="allowed are ridge"), job_egress(None, simulated, tmp_path / "demo", 0):
        raise AssertionError("it is refused")
    assert not (tmp_path / "demo").exists()


def test_a_plain_runner_is_refused_where_it_would_pass_a_policy_by(policy, tmp_path, monkeypatch):
    place = policy()
    assert plain_fault(0) is None
    assert f"this machine has the silo policy {place}, which FedML's plain runner passes by" in str(plain_fault(1))
    monkeypatch.setenv("FEDCLIP_SILO_POLICY", "")
    assert "must be the full path" in str(plain_fault(1))


@pytest.mark.usefixtures("none")
def test_a_plain_runner_is_as_before_without_a_policy(tmp_path, monkeypatch):
    assert plain_fault(1) is None
    monkeypatch.setenv("FEDCLIP_EGRESS_LOG", str(tmp_path))
    assert "an egress log (FEDCLIP_EGRESS_LOG), which FedML's plain runner passes by" in str(plain_fault(1))


def test_what_is_sent_without_an_egress_needs_none():
    world = World(2)

    def act(comm):
        exchange = Exchange(comm, ("server", "north"), 2.0, "in a test")
        return exchange.from_silos(Present) if comm.Get_rank() == 0 else exchange.to_server(Present(recipe="d"))

    assert world.together(act, limit=4)[0] == [Present(recipe="d")]
