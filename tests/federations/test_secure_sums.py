"""Secure sums under the real mpirun: the adapter of plain averaging, under a policy that requires them."""

import json

import numpy as np
import pytest

from tests.support.policies import write_policy
from tests.support.secure_silos import write_keys
from tests.support.workshop import LAUNCH

NAMES = ("art_painting", "cartoon", "photo")
LIMIT = 400
"""Seconds for a job on a busy machine."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys"), NAMES)


def test_silos_whose_policy_requires_secure_sums_end_with_the_plain_adapter(workshop, keys, tmp_path):
    policy = write_policy(tmp_path / "policy.yaml", require_secure_sums=True, min_silos=3)
    recipe = workshop.recipe("secure_sums", train_args__comm_round=2, fedclip_args__secure_sums=True)
    env = {"FEDCLIP_SILO_KEYS": str(keys), "FEDCLIP_SILO_POLICY": str(policy)}
    outcome = workshop.run(recipe, env=env, limit=LIMIT)
    assert outcome.code == 0, outcome.err
    assert "secure sums: the server reads the total of the silos' updates and none by itself" in outcome.out
    plain = workshop.run_here(workshop.recipe("secure_sums_plain", train_args__comm_round=2))
    tensors = [own.folder.load_round(1).tensors for own in (plain, outcome)]
    assert max(np.abs(tensors[0][name] - tensors[1][name]).max() for name in tensors[0]) < 1e-7
    scores = [
        [(line.target, {name: own.test for name, own in line.silos.items()}) for line in own.lines]
        for own in (plain, outcome)
    ]
    assert scores[0] == scores[1], "no answer is another one"
    for rank in (1, 2, 3):
        log = (outcome.folder.path / "logs" / f"egress_{rank}.jsonl").read_text().splitlines()
        kinds = [line.get("kind") for line in map(json.loads, log)]
        assert kinds.count("masked update") == 2
        assert "update" not in kinds


def test_a_silo_without_a_key_is_named_before_anything_is_trained(workshop, tmp_path):
    keys = write_keys(tmp_path / "keys", NAMES)
    (keys / "cartoon.key").unlink()
    recipe = workshop.recipe("secure_sums_no_key", fedclip_args__secure_sums=True)
    outcome = workshop.run(recipe, env={"FEDCLIP_SILO_KEYS": str(keys)}, limit=LIMIT)
    assert outcome.code == 2
    assert "1 of 4 ranks cannot start" in outcome.err
    assert "its silo keys cannot be used, or its roster lacks a silo (SiloKeysError" in outcome.err
    assert "cartoon.key cannot be used: No such file or directory" in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.lines == []


def test_a_round_is_masked_again_without_a_silo_that_is_gone_where_the_recipe_says_redo(workshop, tmp_path):
    """The server has lost what it knew of round 2, which every silo has masked; then one silo is gone for good."""
    four = {"train_args__client_num_in_total": 4, "train_args__client_num_per_round": 4, "train_args__comm_round": 2}
    four |= {"fedclip_args__target_domain": None, "fedclip_args__min_silos": 3}
    masked = {"fedclip_args__secure_sums": True, "fedclip_args__on_missing": "redo"}
    recipe = workshop.recipe("secure_sums_redo", **four, **masked)
    env = {"FEDCLIP_SILO_KEYS": str(write_keys(tmp_path / "keys", (*NAMES, "sketch")))}
    whole = workshop.run(recipe, env=env, limit=LIMIT)
    assert whole.code == 0, whole.err
    place = whole.folder.metrics
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:2]))
    words = ["--resume", "--without", "cartoon", "--set", "train_args.comm_round=3"]
    gone = workshop.run(recipe, *words, program=LAUNCH, env=env, limit=LIMIT)
    assert gone.code == 0, gone.err
    assert [line.without for line in gone.lines] == [(), (), ("cartoon",), ("cartoon",)]
    for rank in (1, 3, 4):
        assert gone.log(rank).count("round 2 is masked again, without cartoon: the server has other members") == 1
        assert "round 3 is masked again" not in gone.log(rank)
