"""The examples in docstrings run as they stand."""

import doctest
from importlib import import_module

import pytest

import fedclip_plugin
from fedclip_edge.bundle import keys
from fedclip_edge.runtime import EdgeClassifier
from tests.support import forge

EXAMPLES = ("Classifier", "fit", "load_recipe")


def outcome(thing, **names):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    found = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, globs=dict(names))
    assert found and found[0].examples
    failed = []
    for test in found:
        runner.run(test, out=failed.append)
    return "".join(failed)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_public_name_runs(name, workshop, tmp_path, monkeypatch, fresh_fedml):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".fedclip").mkdir()
    (tmp_path / ".fedclip" / "data").symlink_to(workshop.data)  # drawn once for all tests
    assert outcome(getattr(fedclip_plugin, name)) == ""


def test_every_public_name_says_what_it_is():
    for name in set(dir(fedclip_plugin)) - {"__version__"}:
        thing = getattr(fedclip_plugin, name)
        assert thing.__doc__ and import_module(thing.__module__), name


def test_the_example_of_the_device_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys.generate(tmp_path / "release")
    bundle = forge.bundle(tmp_path / "bundle", key=tmp_path / "release")
    assert outcome(EdgeClassifier, EdgeClassifier=EdgeClassifier, bundle=bundle, image=forge.images()[0]) == ""
