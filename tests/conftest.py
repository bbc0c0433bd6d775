"""Fixtures that several folders of tests share."""

import os
import shutil
from functools import cache

import pytest

from fedclip_miniature import ensure_miniature
from fedclip_plugin.federated.fedml_imports import import_fedml
from tests.support.workshop import IMAGES_PER_CLASS, SILOS, Workshop


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let what a test logged cross between processes: names that are not UTF-8 cannot."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """Recipes, run folders and caches for the whole session: images are drawn and encoded once."""
    base = tmp_path_factory.getbasetemp()
    caches = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Workshop(tmp_path_factory.mktemp("workshop"), caches / "caches")


@pytest.fixture(scope="session")
def fedml_of_the_session():
    """Import FedML as a rank does, before anything else of FedML is imported here."""
    import_fedml()


@pytest.fixture(scope="session")
def own_job(workshop, fedml_of_the_session):
    """Return a function from a method's name to its three rounds on the miniature, in this process."""
    return cache(lambda method: workshop.run_here(workshop.recipe(method, fedclip_args__method=method)))


@pytest.fixture(scope="session")
def own_images(workshop):
    """Return a function that makes a folder of three silos, ``<silo>/<class>/<image>``, of ``most`` images a class."""
    root = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)

    def make(name, most=IMAGES_PER_CLASS):
        place = workshop.place / "own" / name
        for silo, domain in zip(SILOS, ("art_painting", "cartoon", "photo"), strict=True):
            for image in (root / domain).glob("*/*.png"):
                if int(image.stem) < most:
                    copy = place / silo / image.parent.name / image.name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(image, copy)
        return place

    return make


@pytest.fixture
def fresh_fedml():
    """Reset FedML's singletons, which remember the arguments of the first test otherwise."""
    from fedml.core.alg_frame.context import Context
    from fedml.core.dp.fedml_differential_privacy import FedMLDifferentialPrivacy
    from fedml.core.fhe.fhe_agg import FedMLFHE
    from fedml.core.security.fedml_attacker import FedMLAttacker
    from fedml.core.security.fedml_defender import FedMLDefender

    def forget():
        FedMLDifferentialPrivacy._dp_instance = None
        FedMLDefender._defender_instance = None
        FedMLAttacker._attacker_instance = None
        FedMLFHE._fhe_instance = None

    forget()
    yield Context
    forget()
