"""Fixtures that several folders of tests share; what is heavy is imported where it is used."""

import shutil
from functools import cache

import pytest

from tests.support.made_once import made_once


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let what a test logged cross between processes: names that are not UTF-8 cannot."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def shared(tmp_path_factory, pytestconfig):
    """Return the folder that all processes of this run of pytest share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(pytestconfig, "workerinput") else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, shared):
    """Recipes and run folders for the whole session, and caches: images are drawn and encoded once in a run."""
    from tests.support.workshop import Workshop

    return Workshop(tmp_path_factory.mktemp("workshop"), shared)


@pytest.fixture(scope="session")
def encoder_of(shared):
    """Return ``encoder_graph``, which traces one CLIP once in a run: that takes seconds for the smallest as well."""
    import onnx

    from fedclip_export.graphs.encoder import encoder_graph
    from fedclip_export.graphs.finalize import finalize
    from fedclip_plugin.backbone.fingerprint import fingerprint

    def graph(folder, metadata):
        path = shared / f"{fingerprint(folder)}.onnx"
        made_once(path, lambda: encoder_graph(folder, {}).SerializeToString())
        return finalize(onnx.load(path), name="encoder", metadata=metadata)

    return graph


@pytest.fixture(scope="session")
def one_trace_an_encoder(encoder_of):
    """Let ``export_bundle`` trace one encoder once; the tests of the encoder's graph trace it themselves."""
    from fedclip_export import export_bundle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_bundle, "encoder_graph", encoder_of)
        yield


@pytest.fixture(scope="session")
def fedml_of_the_session():
    """Import FedML as a rank does, before anything else of FedML is imported here."""
    from fedclip_plugin.federated.fedml_imports import import_fedml

    import_fedml()


@pytest.fixture(scope="session")
def own_job(workshop, fedml_of_the_session):
    """Return a function from a method's name to its rounds on the miniature, in this process."""
    from tests.support.workshop import of_method

    return cache(lambda method: workshop.run_here(workshop.recipe(method, **of_method(method))))


@pytest.fixture(scope="session")
def own_images(workshop):
    """Return a function that makes a folder of three silos, ``<silo>/<class>/<image>``, of ``most`` images a class."""
    from fedclip_miniature import ensure_miniature
    from tests.support.workshop import IMAGES_PER_CLASS, SILOS

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


@pytest.fixture
def silo_keys(tmp_path, monkeypatch):
    """Let this machine have the keys of the three silos of a federation in one process; return their folder."""
    from tests.support.in_process_federation import SILOS
    from tests.support.secure_silos import write_keys

    folder = write_keys(tmp_path / "silo_keys", SILOS)
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(folder))
    return folder
