"""A silo's policy and log under the real mpirun: who refuses is named, and what is logged is what was counted."""

import hashlib
import json

from fedclip_plugin.trust.audit import audit
from tests.support.policies import write_policy
from tests.support.workshop import TWO_SILOS

START = ["Present", "RankMemory", "Room", "Ready", "Encoded"]
LIMIT = 400
"""Seconds for a job on a busy machine."""


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


def test_a_log_that_cannot_be_written_ends_the_job_before_anything_is_sent(workshop, tmp_path):
    (tmp_path / "file").touch()
    recipe = workshop.recipe("policy_unwritable", **TWO_SILOS)
    outcome = workshop.run(recipe, env={"FEDCLIP_EGRESS_LOG": str(tmp_path / "file" / "logs")}, limit=LIMIT)
    assert outcome.code == 2
    assert "before round 1: the egress log" in outcome.err
    assert "nothing is sent before it is written" in outcome.err
