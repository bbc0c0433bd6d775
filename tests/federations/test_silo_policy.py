"""A silo's policy and log under the real mpirun: who refuses is named, and what is logged is what was counted."""

import hashlib
import json
import re
import socket
import threading

import pytest

from fedclip_plugin.trust.audit import audit
from tests.support.policies import LAX, write_policy
from tests.support.workshop import TWO_SILOS

START = ["Present", "RankMemory", "Room", "Ready", "Encoded"]
LIMIT = 400
"""Seconds for a job on a busy machine."""


BY_TCP = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo"}
"""Lets ranks on one machine talk over its loopback device."""

REFUSED = {
    "training": (
        TWO_SILOS,
        {
            **{"methods": ["ridge"], "backbones": ["b" * 64], "runs": ["other"], "max_rounds": 2, "max_bytes": 9},
            **{"min_silos": 3, "require_secure_sums": True, "require_differential_privacy": True},
            **{"max_epsilon": 8.0, "max_delta": 1e-5, "allow_kind_counts": False},
        },
    ),
    "sums": (
        TWO_SILOS
        | {"fedclip_args__method": "ridge", "train_args__comm_round": 1}
        | {"fedclip_args__forgettable": True, "fedclip_args__personal_statistics": True},
        {
            **{"min_class_count": 5, "allow_class_counts": False, "allow_forgettable": False},
            "allow_personal_statistics": False,
        },
    ),
}
"""Recipes, and policies of which each line but the two bounds refuses the one or the other."""


class Loopback:
    """Everything that crosses this machine's loopback device while it is open."""

    def __init__(self):
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        except PermissionError:
            pytest.skip("no packets can be captured here: that takes root")
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 2**26)  # SO_RCVBUFFORCE
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._over, self._packets = threading.Event(), []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _read(self):
        while not self._over.is_set():
            try:
                packet, (_, _, way, *_) = self._socket.recvfrom(2**17)
            except TimeoutError:
                continue
            if way == socket.PACKET_OUTGOING:  # each is seen twice
                self._packets.append(packet)

    def kinds(self):
        """Return the kinds of messages that crossed."""
        return {
            kind.decode() for kind in re.findall(rb'fedclip\x02.{4}\{"kind":"([^"]+)"', b"".join(self._packets), re.S)
        }


def entries(path, entry="message"):
    return [line for line in map(json.loads, path.read_text().splitlines()) if line["entry"] == entry]


def test_what_leaves_each_silo_is_logged_and_the_run_knows_the_policies(workshop, tmp_path):
    policy = write_policy(tmp_path / "policy.yaml")
    recipe = workshop.recipe("policy_kept", **TWO_SILOS, train_args__comm_round=2)
    outcome = workshop.run(recipe, env={"FEDCLIP_SILO_POLICY": str(policy)}, limit=LIMIT)
    assert outcome.code == 0, outcome.err
    digest = hashlib.sha256(policy.read_bytes()).hexdigest()
    (start,) = map(json.loads, outcome.folder.policies.read_text().splitlines())
    assert start == {"after_round": 0, "policies": {"art_painting": digest, "cartoon": digest}}
    assert f"silo policies: art_painting {digest[:12]}, cartoon {digest[:12]}" in outcome.out
    logs = [outcome.folder.path / "logs" / f"egress_{rank}.jsonl" for rank in (1, 2)]
    for rank, path in enumerate(logs, 1):
        (opening,), (closing,) = entries(path, "open"), entries(path, "close")
        assert (opening["run"], opening["policy"]) == ("policy_kept", digest)
        assert [line["kind"] for line in entries(path)][:5] == START
        assert [line["round"] for line in entries(path) if line["kind"] == "update"] == [1, 2]
        assert entries(path)[-1]["kind"] == "Likelihoods"
        assert f"last hash {closing['hash']}" in outcome.err
        assert f"last hash {closing['hash']}" in outcome.log(rank)
        assert audit(path, [closing["hash"]]).verified
    sent = [line for path in logs for line in entries(path)]
    updates, others = (sum(line["bytes"] for line in sent if line["kind"] == kind) for kind in ("update", "status"))
    assert updates <= sum(line.bytes_up for line in outcome.lines) <= updates + others


def test_a_silo_that_refuses_sends_no_update_and_is_named(workshop, tmp_path):
    policy = write_policy(tmp_path / "policy.yaml", max_rounds=1)
    recipe = workshop.recipe("policy_refused", **TWO_SILOS, train_args__comm_round=2)
    outcome = workshop.run(recipe, env={"FEDCLIP_SILO_POLICY": str(policy)}, limit=LIMIT)
    assert outcome.code == 2
    assert "2 of 3 ranks cannot start" in outcome.err
    assert "its silo policy refuses that, or cannot be used (PolicyError" in outcome.err
    assert "train_args.comm_round = 2: at most 1 (max_rounds)" in outcome.err
    assert "Traceback" not in outcome.err
    for rank in (1, 2):
        path = outcome.folder.path / "logs" / f"egress_{rank}.jsonl"
        assert [line["kind"] for line in entries(path)] == ["Present"]
        assert entries(path, "refused")[0]["policy_keys"] == ["max_rounds"]
        assert audit(path).verified
    assert not outcome.folder.metrics.exists()


def test_a_capture_shows_no_byte_of_an_update_where_a_line_of_the_policy_refuses_it(workshop, tmp_path):
    told = ""
    for name, (changes, policy) in REFUSED.items():
        place = write_policy(tmp_path / f"{name}.yaml", **policy)
        with Loopback() as capture:
            outcome = workshop.run(
                workshop.recipe(f"captured_{name}", **changes), env=BY_TCP | {"FEDCLIP_SILO_POLICY": str(place)}
            )
        assert outcome.code == 2
        assert capture.kinds() == {"Present", "CannotStart"}
        told += outcome.err
    assert {key for key in LAX if f"({key})" in told} == set(LAX)

    place, changes = write_policy(tmp_path / "lax.yaml"), TWO_SILOS | {"train_args__comm_round": 1}
    with Loopback() as capture:
        allowed = workshop.run(workshop.recipe("captured", **changes), env=BY_TCP | {"FEDCLIP_SILO_POLICY": str(place)})
    assert allowed.code == 0
    assert capture.kinds() > {"Present", "Ready", "update"}, "it would have been seen"


def test_a_log_that_cannot_be_written_ends_the_job_before_anything_is_sent(workshop, tmp_path):
    (tmp_path / "file").touch()
    recipe = workshop.recipe("policy_unwritable", **TWO_SILOS)
    outcome = workshop.run(recipe, env={"FEDCLIP_EGRESS_LOG": str(tmp_path / "file" / "logs")}, limit=LIMIT)
    assert outcome.code == 2
    assert "before round 1: the egress log" in outcome.err
    assert "nothing is sent before it is written" in outcome.err
