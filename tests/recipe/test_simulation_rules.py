"""The keys of a simulation: what goes together, what is refused and how it is said."""

import pytest

from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.check import check
from tests.support.recipe_sections import changed as changed_sections

GOOD = {
    "common_args": {"training_type": "simulation"},
    "data_args": {"dataset": "miniature", "partition_method": "hetero", "partition_alpha": 0.5},
    "train_args": {
        "federated_optimizer": "FedAvg",
        "client_num_in_total": 60,
        "client_num_per_round": 6,
        "comm_round": 3,
    },
    "validation_args": {"frequency_of_the_test": 1},
    "comm_args": {"backend": "MPI"},
    "device_args": {"worker_num": 2},
    "fedclip_args": {
        "domains": ["art_painting", "cartoon", "photo", "sketch"],
        "target_domain": "sketch",
        "silos_per_domain": 20,
    },
}
CROSS_SILO = {
    "common_args.training_type": "cross_silo",
    "device_args.worker_num": None,
    "fedclip_args.silos_per_domain": None,
    "data_args.partition_method": None,
    "data_args.partition_alpha": None,
    "train_args.client_num_in_total": 3,
    "train_args.client_num_per_round": 3,
}


def changed(changes):
    return changed_sections(GOOD, changes)


def lines(changes):
    return [fault.line() for fault in check(changed(changes))[1]]


VALID = {
    "workers": {},
    "as many workers as there are": {"device_args.worker_num": None},
    "one process": {"comm_args.backend": "sp", "device_args.worker_num": None},
    "a client a domain": {
        "fedclip_args.silos_per_domain": None,
        "data_args.partition_method": None,
        "data_args.partition_alpha": None,
        "train_args.client_num_in_total": 3,
        "train_args.client_num_per_round": 2,
    },
    "classes of each client": {
        "data_args.partition_method": "classes",
        "data_args.partition_alpha": None,
        "data_args.classes_per_client": 2,
    },
    "lost updates": {"fedclip_args.client_drop_rate": 0.5},
    "many clients": {
        "train_args.client_num_in_total": 99_999,
        "fedclip_args.silos_per_domain": 33_333,
    },
    "cross-silo": CROSS_SILO,
}


@pytest.mark.parametrize("changes", VALID.values(), ids=VALID)
def test_these_are_valid(changes):
    assert lines(changes) == []


_COUNTS = ("train_args.client_num_in_total", "train_args.client_num_per_round")

INVALID = [
    ({"device_args.worker_num": 7}, "at most client_num_per_round, 6"),
    ({"device_args.worker_num": 0}, "at least 1"),
    ({"comm_args.backend": "sp"}, "backend: sp is one process"),
    ({"train_args.client_num_per_round": 0}, "at least 1"),
    ({"train_args.client_num_per_round": 61}, "at most client_num_in_total, 60"),
    ({"train_args.client_num_in_total": 40}, "must equal 3 domains x silos_per_domain 20"),
    ({"train_args.client_num_in_total": 40, "fedclip_args.domains": None}, ""),
    ({"train_args.client_num_in_total": 50, "fedclip_args.domains": None}, "multiple of silos_per_domain, 20"),
    (
        {"data_args.partition_method": None, "data_args.partition_alpha": None},
        "required by silos_per_domain: homo, het",
    ),
    ({"fedclip_args.client_drop_rate": 1.0}, "less than 1"),
    ({"fedclip_args.client_drop_rate": 0.95}, "leaves 3 of 3 rounds fewer updates than min_silos, 1, by random_seed 0"),
    (
        {"fedclip_args.client_drop_rate": 0.1, "fedclip_args.min_silos": 6},
        "min_silos, 6, by random_seed 0: round 2 (5 of 6); lower it or min_silos, or let more clients train",
    ),
    ({"train_args.client_num_in_total": 61}, "must equal 3 domains x silos_per_domain 20"),
    (
        {"fedclip_args.silos_per_domain": None, **dict.fromkeys(_COUNTS, 3), "data_args.partition_alpha": None}
        | {"data_args.partition_method": "homo"},
        "of no use while each domain is one client; set fedclip_args.silos_per_domain",
    ),
    ({"data_args.data_silo_config": ["a.yaml"] * 60}, "a simulation reads all images"),
    (CROSS_SILO | {"comm_args.backend": "sp"}, "only for training_type: simulation; write MPI"),
    (CROSS_SILO | {"device_args.worker_num": 2}, "only for training_type: simulation"),
    (CROSS_SILO | {"fedclip_args.client_drop_rate": 0.1}, "only for training_type: simulation"),
    (CROSS_SILO | {"fedclip_args.silos_per_domain": 1}, "only for training_type: simulation"),
    (
        CROSS_SILO | {"train_args.client_num_in_total": 10_001, "fedclip_args.domains": None},
        "at most 10000, as each silo is a process",
    ),
]


@pytest.mark.parametrize(("changes", "told"), INVALID, ids=[told or "valid" for _, told in INVALID])
def test_one_fault_says_the_rule(changes, told):
    found = lines(changes)
    assert len(found) == bool(told), found
    assert not told or told in found[0]


@pytest.mark.parametrize(
    ("changes", "ranks"),
    [
        ({}, 3),
        ({"device_args.worker_num": None}, 5),
        (VALID["one process"], 1),
        (CROSS_SILO, 4),
    ],
)
def test_a_job_has_a_rank_for_the_server_and_each_worker_or_silo(changes, ranks):
    assert Recipe.checked(changed(changes), "test").rank_count(workers=4) == ranks


def test_no_result_depends_on_the_number_of_workers():
    digests = {Recipe.checked(changed({"device_args.worker_num": own}), "test").digest() for own in (None, 1, 2)}
    assert len(digests) == 1
