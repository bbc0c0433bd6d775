"""What a silo sends passes its policy and its log first: in a federation, and in all messages around it."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch

from fedclip_plugin.errors import PolicyError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.managers import handlers
from fedclip_plugin.federated.messages.exchange import Exchange, packed
from fedclip_plugin.federated.messages.fedml_messages import announced, decode
from fedclip_plugin.federated.messages.leaving import current_egress, sending_through, value_leaves
from fedclip_plugin.federated.privacy.privacy_settings import PrivacySettings
from fedclip_plugin.federated.startup.start_messages import Present, Ready
from fedclip_plugin.methods import parameters_of
from fedclip_plugin.trust.audit import audit
from fedclip_plugin.trust.egress import Egress
from fedclip_plugin.trust.egress_log import EgressLog
from fedclip_plugin.trust.outgoing import Outgoing
from tests.support.in_process_federation import SILOS, Federation
from tests.support.mpi_world import World
from tests.support.policies import policy_of

pytestmark = pytest.mark.usefixtures("fresh_fedml", "raised")


@pytest.fixture
def raised(monkeypatch):
    """Let what ends a job be raised, as in one process."""

    def end(comm, who, error):
        raise error

    monkeypatch.setattr(handlers, "stop_job", end)


def egress_of(folder, rank, **policy):
    """Return what a silo sends through: a policy, and a log ``egress_N.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    opening = {"run": "demo", "silo": SILOS[rank - 1], "recipe": "d", "policy": None}
    return Egress(policy_of(folder, **policy), EgressLog(folder / f"egress_{rank}.jsonl", opening), "demo")


def shown(value):
    """Show a value as an exchange does before it sends it."""
    value_leaves(value, packed(value))


def watched(federation):
    """Note every message that is put on the wire: sender, kind, and the bytes of each."""
    sent, put = [], federation.wire.put

    def note(pair, waiting):
        end = federation.wire.transports[pair[1]]
        found = announced(waiting.header, end.expected, pair[0], end.names[pair[0]], pair[1])
        digest = hashlib.sha256(b"".join([waiting.header, *waiting.contents])).hexdigest()
        sent.append((pair[0], decode(found, waiting.contents), digest))
        put(pair, waiting)

    federation.wire.put = note
    return sent


def lines_of(path, entry="message"):
    return [line for line in map(json.loads, path.read_text().splitlines()) if line["entry"] == entry]


@pytest.mark.parametrize("changes", [{}, {"codec": "int8"}, {"method": "ridge", "comm_round": 1}, {"wise": (0.5, 1.0)}])
def test_the_log_has_each_message_byte_for_byte(tmp_path, changes):
    logs = tmp_path / "logs"
    egress = {rank: egress_of(logs, rank) for rank in (1, 2, 3)}
    method = {"method": "sigmoid_gate"} if "wise" in changes else {}
    federation = Federation(tmp_path / "run", egress=egress, **method, **changes)
    sent = watched(federation)
    federation.run()
    for rank, silo in enumerate(federation.silos, 1):
        egress[rank].close()
        logged = lines_of(logs / f"egress_{rank}.jsonl")
        own = [digest for sender, _, digest in sent if sender == rank]
        assert [line["sha256"] for line in logged][-len(own) :] == own
        assert len(logged) == len(own) + 1, "the first word was said before anybody watched"
        assert sum(line["bytes"] for line in logged) == silo.com_manager.bytes_sent
        (closing,) = lines_of(logs / f"egress_{rank}.jsonl", "close")
        assert (closing["messages"], closing["bytes"]) == (len(logged), silo.com_manager.bytes_sent)
        assert audit(logs / f"egress_{rank}.jsonl").verified
    kinds = {line["kind"] for line in logged}
    expected = {"ridge": {"sums", "trials"}}.get(changes.get("method"), {"update"})
    assert kinds == {"status", *expected, *({"interpolations"} if "wise" in changes else ())}
    assert [line["epsilon"] for line in logged] == [None] * len(logged)


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_the_norm_is_that_of_what_the_server_sees_less_what_had_come(tmp_path, codec):
    egress = {1: egress_of(tmp_path / "logs", 1)}
    federation = Federation(tmp_path / "run", egress=egress, codec=codec, comm_round=2)
    arrived, norms, seen = [], [], federation.server._aggregator
    before = federation.silos[0]._driver.update_model

    def note(parameters):
        before(parameters)
        arrived.append(
            {name: own.clone() for name, own in parameters_of(federation.silos[0]._driver.silo_trainer.model).items()}
        )

    federation.silos[0]._driver.update_model = note
    taken = federation.server._averager.add_local_trained_result

    def take(index, parameters, count):
        if index == 0:
            whole = federation.silos[0]._driver._compressor.expand(parameters, arrived[-1])
            norms.append(float(torch.cat([(whole[n] - arrived[-1][n]).flatten() for n in whole]).double().norm()))
        taken(index, parameters, count)

    federation.server._averager.add_local_trained_result = take
    federation.run()
    logged = [line for line in lines_of(tmp_path / "logs" / "egress_1.jsonl") if line["kind"] == "update"]
    assert seen.settings.codec == codec
    assert [line["round"] for line in logged] == [1, 2]
    assert [line["norm"] for line in logged] == pytest.approx(norms, rel=1e-5)
    assert all(norm > 0 for norm in norms)


@pytest.mark.parametrize("codec", ["none", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_update_without_a_finite_norm_is_logged_and_sent(tmp_path, codec, value):
    egress = {1: egress_of(tmp_path / "logs", 1)}
    federation = Federation(tmp_path / "run", egress=egress, codec=codec, comm_round=2, min_silos=2)
    trainer = federation.silos[0]._driver.silo_trainer
    before = trainer.get_model_params

    def spoilt():
        return type(found := before())((name, torch.full_like(tensor, value)) for name, tensor in found.items())

    trainer.get_model_params = spoilt
    federation.run()
    egress[1].close()
    logged = [line for line in lines_of(tmp_path / "logs" / "egress_1.jsonl") if line["kind"] == "update"]
    assert [line["norm"] for line in logged] == [None, None]
    assert [list(line.dropped) for line in federation.lines[1:]] == [["art"], ["art"]]
    found = audit(tmp_path / "logs" / "egress_1.jsonl")
    assert found.verified and "update" in found.to_text()


def test_a_log_changes_nothing_of_a_federation(tmp_path):
    plain = Federation(tmp_path / "plain").run()
    logged = Federation(tmp_path / "logged", egress={1: egress_of(tmp_path / "logs", 1)}).run()
    first, second = (federation.folder.load_round(4).tensors for federation in (plain, logged))
    assert all((first[name] == second[name]).all() for name in first)


def test_a_policy_stops_a_silo_before_the_first_round_too_many(tmp_path):
    federation = Federation(tmp_path / "run", egress={2: egress_of(tmp_path / "logs", 2, max_rounds=2)})
    sent = watched(federation)
    with pytest.raises(PolicyError, match=r"message update: is of round 3; 2 are allowed \(max_rounds\)"):
        federation.run()
    updates = [message for sender, message, _ in sent if sender == 2 and message.get("model_params")]
    assert len(updates) == 2
    (kept,) = lines_of(tmp_path / "logs" / "egress_2.jsonl", "refused")
    assert (kept["what"], kept["round"], kept["policy_keys"]) == ("update", 3, ["max_rounds"])


@pytest.mark.parametrize(
    ("policy", "changes", "told"),
    [
        ({"max_bytes": 600}, {}, "max_bytes"),
        ({"allow_class_counts": False}, {"method": "ncm", "comm_round": 1}, "allow_class_counts"),
        ({"min_class_count": 7}, {"method": "ncm", "comm_round": 1}, "min_class_count"),
        (
            {"require_differential_privacy": True, "max_epsilon": 1.0, "max_delta": 1e-5},
            {},
            "require_differential_privacy",
        ),
    ],
)
def test_no_byte_of_an_update_leaves_against_the_policy(tmp_path, policy, changes, told):
    federation = Federation(tmp_path / "run", egress={1: egress_of(tmp_path / "logs", 1, **policy)}, **changes)
    sent = watched(federation)
    with pytest.raises(PolicyError, match=rf"\({told}\)"):
        federation.run()
    own = [message for sender, message, _ in sent if sender == 1]
    assert not [message for message in own if message.get("model_params") is not None]
    assert not [message for message in own if message.get_type() == 3]


def test_the_bytes_of_earlier_starts_count(tmp_path):
    logs = tmp_path / "logs"
    federation = Federation(tmp_path / "run", egress={1: egress_of(logs, 1)}, comm_round=1)
    federation.run()
    federation.silos[0].egress.close()
    spent = federation.silos[0].com_manager.bytes_sent
    again = egress_of(logs, 1, max_bytes=spent)
    with sending_through(again), pytest.raises(PolicyError, match=f"{spent:,} may leave"):
        shown(Present(recipe="d"))
    assert audit(logs / "egress_1.jsonl", [again.log.last_hash]).verified


def test_rounds_are_counted_by_how_often_training_leaves_with_earlier_starts_and_by_recipe(tmp_path):
    first = egress_of(tmp_path, 1, max_rounds=3)
    for number in (1, 1):
        first.leaving(Outgoing("update", [b"1"], number))
    first.leaving(Outgoing("report", [b"1"], 2))
    first.close()
    again = egress_of(tmp_path, 1, max_rounds=3)
    again.leaving(Outgoing("update", [b"1"], 1))
    with pytest.raises(PolicyError, match=r"would be message 4 with training, .*; 3 are allowed \(max_rounds\)"):
        again.leaving(Outgoing("update", [b"1"], 1))
    again.close()
    opening = {"run": "demo", "silo": "art", "recipe": "another", "policy": None}
    other = Egress(policy_of(tmp_path, max_rounds=3), EgressLog(tmp_path / "egress_1.jsonl", opening), "demo")
    other.leaving(Outgoing("update", [b"1"], 1))
    other.close()


def start_of(folder, recipe, *spent, account=None, delta=1e-5, **bounds):
    """Let a silo begin, or go on, in one log, and send updates with which it has spent so much."""
    usual = {"require_differential_privacy": True, "max_epsilon": 3.0, "max_delta": 3e-5}
    opening = {"run": "demo", "silo": "art", "recipe": recipe, "policy": None}
    own = Egress(policy_of(folder, **usual | bounds), EgressLog(folder / "egress_1.jsonl", opening), "demo")
    try:
        for number, epsilon in enumerate(spent, 1):
            own.leaving(Outgoing("update", [b"1"], number, epsilon=epsilon, delta=delta, account=account))
    finally:
        own.close()


def told_in_all(folder):
    """Return the last two columns of an audit: epsilon and delta."""
    return audit(folder / "egress_1.jsonl").to_text().split("in all  ")[1].splitlines()[0].split()[-2:]


def test_what_a_studys_cells_spend_adds_up_in_policy_and_audit(tmp_path):
    start_of(tmp_path, "a", 0.5, 1.0)
    start_of(tmp_path, "a", 1.5)
    start_of(tmp_path, "b", 0.5, 1.0)
    with pytest.raises(PolicyError, match=r"would make epsilon 3.1 in all; 3 may be spent"):
        start_of(tmp_path, "b", 1.6)
    with pytest.raises(PolicyError, match=r"would make epsilon 3.3 in all; 3 may be spent"):
        start_of(tmp_path, "b", 0.8)
    assert told_in_all(tmp_path) == ["2.5", "2e-05"]
    start_of(tmp_path, "c", 0.1, 0.2)
    with pytest.raises(PolicyError, match=r"would make delta 4e-05 in all; 3e-05 may be spent \(max_delta\)"):
        start_of(tmp_path, "d", 0.1)
    assert told_in_all(tmp_path) == ["2.7", "3e-05"]
    assert audit(tmp_path / "egress_1.jsonl").verified


def test_a_run_that_is_begun_anew_has_an_account_of_its_own_however_much_it_spends(tmp_path):
    start_of(tmp_path, "a", 0.5, 1.0, account="first")
    with pytest.raises(PolicyError, match=r"would make epsilon 3.1 in all"):
        start_of(tmp_path, "a", 2.1, account="second")
    start_of(tmp_path, "a", 2.1, account="first")
    with pytest.raises(PolicyError, match=r"would make epsilon 4.5 in all(?s:.*)would make delta 3.1e-05 in all"):
        start_of(tmp_path, "a", 2.4, account="first", delta=2.1e-5)
    assert told_in_all(tmp_path) == ["2.1", "1e-05"]


def test_the_log_tells_what_a_federation_spends_and_in_which_account(tmp_path):
    bounds = {"require_differential_privacy": True, "max_epsilon": 50.0, "max_delta": 1e-3}
    private = PrivacySettings(target_epsilon=None, noise_multiplier=1.0, delta=1e-3)
    run = Federation(
        tmp_path / "run", egress={1: egress_of(tmp_path, 1, **bounds)}, method="linear_probe", privacy=private
    ).run()
    ledger = json.loads((run.folder.personal("art") / "privacy.json").read_text())
    updates = [line for line in lines_of(tmp_path / "egress_1.jsonl") if line["kind"] == "update"]
    assert [line["epsilon"] for line in updates] == [line.silos["art"].epsilon for line in run.lines[1:]]
    assert {(line["delta"], line["account"]) for line in updates} == {(1e-3, ledger["account"])}
    assert len(ledger["account"]) == 16


def test_a_log_that_cannot_be_written_keeps_the_message_back(tmp_path, monkeypatch):
    federation = Federation(tmp_path / "run", egress={1: egress_of(tmp_path / "logs", 1)})
    sent = watched(federation)

    def full(file, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "fedclip_plugin.trust.egress_log.os", SimpleNamespace(write=full, fstat=lambda file: SimpleNamespace(st_size=0))
    )
    with pytest.raises(PolicyError, match=r"cannot be written \(No space left on device\): nothing is sent before it"):
        federation.run()
    assert [sender for sender, *_ in sent if sender == 1] == []


def talk(egress, value):
    """Let a silo of a world of two ranks send the server a value; return what crossed, and how each rank ended."""
    world = World(2)

    def act(comm):
        exchange = Exchange(comm, ("server", "north"), 2.0, "in a test")
        if comm.Get_rank():
            with sending_through(egress):
                exchange.to_server(value)
        return exchange.from_silos(type(value)) if comm.Get_rank() == 0 else None

    return world, world.together(act, limit=4)


def test_values_around_a_federation_are_logged_as_they_travel(tmp_path):
    egress, card = egress_of(tmp_path, 1), Ready(name="art", images=40, policy="p")
    world, results = talk(egress, card)
    assert results[0] == [card]
    assert [content for *_, content in world.crossed] == [card]
    (line,) = lines_of(tmp_path / "egress_1.jsonl")
    assert (line["kind"], line["round"], line["tensors"], line["norm"]) == ("Ready", None, [], None)
    assert line["bytes"] > len("art")
    assert current_egress() is None


def test_a_value_that_the_policy_keeps_back_does_not_cross_and_ends_the_job(tmp_path, monkeypatch, capfd):
    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(stop.os, "_exit", end)
    world, _ = talk(egress_of(tmp_path, 1, max_bytes=10), Present(recipe="d" * 64))
    assert world.crossed == []
    assert world.codes[0] == PolicyError.exit_code == 2, "the launcher advises no resume"
    assert "the job stops: north (rank 1), in a test: SILO POLICY: 1 violation" in capfd.readouterr().err


def test_a_silo_that_refuses_says_the_kind_of_fault_and_nothing_else(tmp_path):
    egress = egress_of(tmp_path, 1)
    egress.refused = PolicyError("no")
    with sending_through(egress):
        shown(Present(fault="PolicyError"))
        for more in (Present(recipe="d"), Present(fault="PolicyError", recipe="d"), Ready(fault="x", name="art")):
            with pytest.raises(PolicyError, match=r"^no$"):
                shown(more)
    assert len(lines_of(tmp_path / "egress_1.jsonl")) == 1


def test_what_the_policy_refuses_in_a_round_ends_the_job_as_bad_input_does(tmp_path, monkeypatch):
    codes = []

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(stop.os, "_exit", end)
    monkeypatch.setattr(handlers, "stop_job", stop.stop_job)
    federation = Federation(tmp_path / "run", egress={1: egress_of(tmp_path / "logs", 1, max_rounds=1)})
    federation.silos[0].args.comm = SimpleNamespace(Abort=codes.append)
    with pytest.raises(SystemExit):
        federation.run()
    assert codes == [2]
