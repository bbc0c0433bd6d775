"""The run that others are compared with."""

import pytest


@pytest.fixture(scope="session")
def happy_recipe(workshop):
    """A cache of features of its own: this is the run that encodes, whatever ran before."""
    return workshop.recipe("happy", fedclip_args__feature_cache_dir=str(workshop.place / "happy_features"))


@pytest.fixture(scope="session")
def happy(workshop, happy_recipe):
    """Three rounds on the miniature with cold caches; everything goes well."""
    return workshop.run(happy_recipe)
