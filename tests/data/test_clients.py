"""The clients of a simulation: whose images are whose, and what cannot be shared out is refused with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedclip_plugin.data import require_images_here
from fedclip_plugin.data.clients import list_clients
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe import Recipe

CLASSES = ("cat", "dog", "eel", "fox")


def recipe(root: Path, clients: int, data: dict[str, Any], **ours: Any) -> Recipe:
    sections = {
        "common_args": {"training_type": "simulation"},
        "data_args": {"dataset": "animals", **data},
        "train_args": {
            "federated_optimizer": "FedAvg", "client_num_in_total": clients, "client_num_per_round": 1, "comm_round": 1,
        },
        "validation_args": {"frequency_of_the_test": 1},
        "comm_args": {"backend": "sp"},
        "fedclip_args": {"min_images_per_silo": 5, "data_root": str(root), "data_layout": "classes", **ours},
    }  # fmt: skip
    return Recipe.checked(sections, "test")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return fill(tmp_path / "pool")


def fill(root: Path, each: int = 40) -> Path:
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for index in range(each):
            (root / name / f"{index:02d}.png").touch()
    return root


METHODS: dict[str, dict[str, Any]] = {
    "homo": {},
    "hetero": {"partition_alpha": 1.0},
    "classes": {"classes_per_client": 2},
    "shards": {"classes_per_client": 2},
    "quantity": {"partition_alpha": 5.0},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_shares_a_folder_out(pool: Path, method: str) -> None:
    asked = recipe(pool, 6, {"partition_method": method, **METHODS[method]})
    clients = list_clients(asked)
    table = clients.table()
    assert table.sum(axis=0).tolist() == [40] * 4
    assert clients.sources == ("animals",)
    if method == "classes":
        assert ((table > 0).sum(axis=1) == 2).all()
    require_images_here(asked)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_shares_each_domain_out(tmp_path: Path, method: str) -> None:
    for domain in ("art", "photo", "sketch"):
        fill(tmp_path / domain)
    data = {"partition_method": method, **METHODS[method]}
    asked = recipe(tmp_path, 8, data, data_layout="domains", target_domain="sketch", silos_per_domain=4)
    clients = list_clients(asked)
    assert clients.sources == ("art", "photo")
    assert clients.table().reshape(2, 4, 4).sum(axis=1).tolist() == [[40] * 4] * 2
    require_images_here(asked)


def test_shots_are_each_client_s_own(pool: Path) -> None:
    clients = list_clients(recipe(pool, 4, {"partition_method": "classes", "classes_per_client": 2}))
    labels = clients.image_sets[0].labels
    for own in clients.splits(0, shots=5):
        assert sorted(np.bincount(labels[own.train], minlength=4).tolist()) == [0, 0, 5, 5]


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], int, str]] = {
    "shots": (
        {"partition_method": "homo"},
        {"shots": 9},
        4,
        r"4 of 4 clients cannot be used\n  silo_1: shots is 9, and its training split has fewer images of \d of its 4 "
        r"classes: .*\n  silo_2: .*\n  silo_3: ",
    ),
    "minimum": (
        {"partition_method": "homo"},
        {},
        33,
        "160 images cannot give each of 33 silos 5; add images, or lower",
    ),
    "more clients than images": ({"partition_method": "homo"}, {}, 161, "160 images cannot give each of 161 silos 5"),
    "sizes": (
        {"partition_method": "quantity", "partition_alpha": 0.05},
        {},
        10,
        r"1000 Dirichlet draws with partition_alpha 0.05 left a silo with fewer than 5 .* of the 160 images each time",
    ),
    "too few to split": (
        {"partition_method": "homo"},
        {"min_images_per_silo": 1},
        40,
        r"40 of 40 clients cannot be used\n  silo_01: 4 images cannot be split(.|\n)*  and 20 more$",
    ),
    "a class of nobody": (
        {"partition_method": "homo"},
        {"classes": [*CLASSES, "gnu", "owl"]},
        4,
        r"2 of 6 classes have no image of any client: gnu, owl; take them out of fedclip_args.classes, or add images",
    ),
    "classes": (
        {"partition_method": "classes", "classes_per_client": 1},
        {},
        3,
        "1 x 3 silos = 3, which leaves 1 of the 4 classes to no silo",
    ),
}


@pytest.mark.parametrize(("data", "ours", "count", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_met_is_refused_with_numbers(
    pool: Path, data: dict[str, Any], ours: dict[str, Any], count: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        require_images_here(recipe(pool, count, data, **ours))


def test_the_faults_of_all_domains_are_listed(tmp_path: Path) -> None:
    for domain, each in (("art", 2), ("photo", 1), ("sketch", 40)):
        fill(tmp_path / domain, each)
    asked = recipe(tmp_path, 9, {"partition_method": "homo"}, data_layout="domains", silos_per_domain=3)
    told = r"2 of 3 domains cannot be shared out\n  art: 8 images cannot .* lower silos_per_domain or .*\n  photo: 4 im"
    with pytest.raises(DataError, match=told):
        require_images_here(asked)


def test_domains_are_skewed_differently_and_the_same_whichever_is_held_out(tmp_path: Path) -> None:
    for domain in ("art", "photo", "sketch"):
        fill(tmp_path / domain)
    data = {"partition_method": "hetero", "partition_alpha": 0.5}
    held = {}
    for target in ("sketch", "photo"):
        asked = recipe(tmp_path, 8, data, data_layout="domains", target_domain=target, silos_per_domain=4)
        clients = list_clients(asked)
        held[target] = dict(zip((own.name for own in clients.members), clients.table().tolist(), strict=True))
    assert held["sketch"]["art_1"] == held["photo"]["art_1"]
    assert [held["sketch"][f"art_{n}"] for n in range(1, 5)] != [held["sketch"][f"photo_{n}"] for n in range(1, 5)]
