"""Folder-per-silo with sampled silos, and one folder shared out among silos; both on images that just lie there."""

import math

import numpy as np
import pytest

from fedclip_miniature import ensure_miniature
from tests.support.workshop import IMAGES_PER_CLASS, OWN_SILOS, SILOS

SAMPLE = 2
"""Purpose of the generator that draws silos: ``default_rng([seed, round, SAMPLE])``."""


@pytest.fixture(scope="module")
def sampled(workshop, own_images, fedml_of_the_session):
    root = own_images("sampled")
    recipe = workshop.recipe(
        "sampled",
        **OWN_SILOS,
        fedclip_args__data_root=str(root / "{silo}"),
        fedclip_args__keep_rounds=1,
        train_args__client_num_per_round=2,
        train_args__comm_round=5,
    )
    return workshop.run_here(recipe)


def test_two_of_three_silos_train_each_round(sampled):
    lines = sampled.lines[1:]
    draws = [np.random.default_rng([0, number, SAMPLE]).choice(3, 2, replace=False) for number in range(5)]
    assert [list(line.answered) for line in lines] == [[SILOS[index] for index in sorted(draw)] for draw in draws]
    assert len({tuple(line.answered) for line in lines}) > 1
    assert all("2 of 3 silos" in text for text in sampled.rounds)


def test_every_silo_reports_every_round(sampled):
    assert [line.round for line in sampled.lines] == [0, 1, 2, 3, 4, 5]
    for line in sampled.lines:
        assert list(line.silos) == list(SILOS)
        trained = [name for name, silo in line.silos.items() if silo.train_loss is not None]
        assert trained == list(line.answered)
        for silo in line.silos.values():
            assert math.isfinite(silo.validation)
            assert silo.images == {"validation": 16, "test": 16}
        assert line.target is None
    assert "target" not in sampled.out.split("accuracy in %")[1].split("\n")[0]


def test_only_the_adapters_that_are_needed_are_kept(sampled):
    best = f"round_{sampled.lines[-1].best_round:04d}"
    kept = {path.name for path in sampled.folder.adapters.iterdir()}
    assert kept == {"best", "final", "round_0005", best}


def test_one_folder_is_shared_out_and_a_bad_image_is_skipped(workshop, fedml_of_the_session):
    root = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0) / "photo"
    shared = workshop.place / "own" / "shared"
    for image in root.rglob("*.png"):
        (shared / image.parent.name).mkdir(parents=True, exist_ok=True)
        (shared / image.parent.name / image.name).symlink_to(image)
    (shared / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    recipe = workshop.recipe(
        "shared",
        **OWN_SILOS | {"fedclip_args__data_layout": "classes", "fedclip_args__silos": None},
        data_args__partition_method="hetero",
        data_args__partition_alpha=1.0,
        fedclip_args__data_root=str(shared),
        fedclip_args__on_bad_image="skip",
        fedclip_args__weighting="samples",
        train_args__comm_round=2,
    )
    outcome = workshop.run_here(recipe)
    assert "images: silo_1 " in outcome.out
    started, ended = (line for line in outcome.out.splitlines() if "skipped unreadable images: silo_" in line)
    assert ended == f"note: {started}", "at the start, and below the closing table"
    assert "broken.png" in outcome.log(0)
    counts = [silo.images["validation"] for silo in outcome.lines[-1].silos.values()]
    assert len(set(counts)) > 1, "the partition is uneven"
    assert sum(counts) <= 0.2 * 7 * IMAGES_PER_CLASS
    assert [line.round for line in outcome.lines] == [0, 1, 2]
