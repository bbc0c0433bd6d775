"""The run that others are compared with."""

import shutil

import pytest

from fedclip_plugin.federated.fedml_imports import import_fedml


@pytest.fixture(scope="session")
def happy_recipe(workshop):
    """A cache of features of its own: this is the run that encodes, whatever ran before."""
    return workshop.recipe("happy", fedclip_args__feature_cache_dir=str(workshop.place / "happy_features"))


@pytest.fixture(scope="session")
def fedml_of_the_session():
    """Import FedML as a rank does, before anything else of FedML is imported here."""
    import_fedml()


@pytest.fixture(scope="session")
def own_job(workshop, happy, fedml_of_the_session):
    """Return a function from a method's name to its three rounds on the miniature, in a job of its own."""
    outcomes = {"fedclip": happy}

    def run(method):
        if method not in outcomes:
            outcomes[method] = workshop.run_here(workshop.recipe(method, fedclip_args__method=method))
        return outcomes[method]

    return run


@pytest.fixture(scope="session")
def happy(workshop, happy_recipe):
    """Three rounds on the miniature with cold caches; everything goes well. Who comes later need not encode again."""
    outcome = workshop.run(happy_recipe)
    if not workshop.features.exists():
        shutil.copytree(workshop.place / "happy_features", workshop.features)
    return outcome
