"""The run that others are compared with."""

import shutil

import pytest


@pytest.fixture(scope="session")
def happy_recipe(workshop):
    """A cache of features of its own: this is the run that encodes, whatever ran before."""
    return workshop.recipe("happy", fedclip_args__feature_cache_dir=str(workshop.place / "happy_features"))


@pytest.fixture(scope="session")
def happy(workshop, happy_recipe):
    """Three rounds on the miniature with cold caches; everything goes well. Who comes later need not encode again."""
    outcome = workshop.run(happy_recipe)
    shutil.copytree(workshop.place / "happy_features", workshop.features, dirs_exist_ok=True)
    return outcome
