"""A run under a silo policy is killed and resumed: what left before counts, and the log and the account go on."""

import json
import shutil
from dataclasses import dataclass
from itertools import pairwise

import pytest

from fedclip_plugin.trust.audit import audit
from fedclip_plugin.trust.egress_log import read_log
from fedclip_plugin.trust.left_before import LeftBefore
from tests.support.policies import write_policy
from tests.support.workshop import LAUNCH, TWO_SILOS, Outcome

PRIVATE = {
    "fedclip_args__method": "linear_probe",
    "fedclip_args__dp_noise_multiplier": 1.0,
    "fedclip_args__dp_target_epsilon": 40.0,
}
LIMIT = 400
"""Seconds for a job on a busy machine."""

ROUNDS, RANKS = 3, (1, 2)


@dataclass(frozen=True)
class Story:
    """What became of a run: killed in its last round, then resumed under other circumstances, one after the other.

    ``before`` and ``after`` are, by rank, the lines of the logs before and after it was resumed to its end.
    """

    killed: Outcome
    without_log: Outcome
    counted: Outcome
    resumed: Outcome
    before: dict
    after: dict

    @property
    def logs(self):
        return {rank: place(self.resumed, rank) for rank in RANKS}


def place(outcome, rank):
    return outcome.folder.path / "logs" / f"egress_{rank}.jsonl"


def lines(outcome):
    return {rank: read_log(place(outcome, rank).read_bytes().splitlines(keepends=True))[0] for rank in RANKS}


def messages(entries, *kinds):
    return [entry for entry in entries if entry["entry"] == "message" and (not kinds or entry["kind"] in kinds)]


@pytest.fixture(scope="module")
def story(workshop, tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    bounds = {"require_differential_privacy": True, "max_epsilon": 40.0, "max_delta": 1e-5}
    recipe = workshop.recipe("policy_resumed", **TWO_SILOS, **PRIVATE, train_args__comm_round=ROUNDS)
    run = {"run": workshop.place / "runs" / "policy_resumed", "env": {"FEDCLIP_SILO_POLICY": str(path)}, "limit": LIMIT}
    again = {**run, "program": LAUNCH}
    write_policy(path, **bounds)
    killed = workshop.sabotage(recipe, f"kill,round={ROUNDS}", **run)
    before = lines(killed)
    kept = path.parent / "kept.jsonl"
    shutil.move(place(killed, 2), kept)
    without_log = workshop.run(recipe, "--resume", **again)
    shutil.move(kept, place(killed, 2))
    write_policy(path, **bounds, max_rounds=ROUNDS)
    counted = workshop.run(recipe, "--resume", **again)
    write_policy(path, **bounds, max_rounds=3 * ROUNDS)
    resumed = workshop.run(recipe, "--resume", **again)
    return Story(killed, without_log, counted, resumed, before, lines(resumed))


def test_the_run_was_killed_after_a_complete_round(story):
    assert story.killed.code == 137
    assert 1 <= story.killed.lines[-1].round < ROUNDS
    assert [entry["round"] for entry in messages(story.before[2], "update")] == [1, 2]


def test_a_lost_log_refuses_by_name_before_anything_is_trained(story):
    outcome, done = story.without_log, story.killed.lines[-1].round
    assert outcome.code == 2, outcome.err
    assert f"the log of the earlier starts is missing: the silo has {done} complete round" in outcome.err
    assert f"cartoon (rank 2), before it goes on after round {done}" in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.lines == story.killed.lines


def test_rounds_that_left_before_count_against_the_policy(story):
    outcome = story.counted
    assert outcome.code == 2, outcome.err
    assert f"would be message {ROUNDS + 1} with training, with rounds that a resume trained again" in outcome.err
    refused = [entry for entries in story.after.values() for entry in entries if entry["entry"] == "refused"]
    assert {(entry["what"], *entry["policy_keys"]) for entry in refused} == {("update", "max_rounds")}


def test_the_run_ends_and_each_log_is_one_chain_from_its_first_start(story):
    assert story.resumed.code == 0, story.resumed.err
    assert [line.round for line in story.resumed.lines] == [0, 1, 2, 3]
    for rank, path in story.logs.items():
        before, after = story.before[rank], story.after[rank]
        assert after[: len(before)] == before
        last = [entry["hash"] for entry, following in pairwise(after) if is_start(following)]
        found = audit(path, [*last, after[-1]["hash"]])
        assert found.verified, found.to_text()
        assert len(found.starts) == (4 if rank == 1 else 3), "rank 2 wrote one of its starts into another log"


def is_start(entry):
    return entry["entry"] == "open"


def test_bytes_rounds_and_epsilon_count_on(story):
    for rank, entries in story.after.items():
        left, sent = LeftBefore.of_log(entries), messages(entries)
        updates = messages(entries, "update")
        assert (
            left.size == sum(entry["bytes"] for entry in sent) > sum(e["bytes"] for e in messages(story.before[rank]))
        )
        assert left.rounds == len(updates) > ROUNDS
        epsilons = [entry["epsilon"] for entry in updates]
        assert epsilons == sorted(set(epsilons)), "each update spends, also of a round that is trained again"
        assert left.spent == (epsilons[-1], 1e-5), "one account, from the first start to the last"
    last = story.resumed.lines[-1]
    assert last.epsilon == max(messages(entries, "update")[-1]["epsilon"] for entries in story.after.values())
    ledgers = [story.resumed.folder.personal(name) / "privacy.json" for name in ("art_painting", "cartoon")]
    accounts = {json.loads(path.read_text())["account"] for path in ledgers}
    assert accounts == {entry["account"] for entries in story.after.values() for entry in messages(entries, "update")}
