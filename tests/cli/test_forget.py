"""``fedclip forget``: the bytes of a run that never had the silo, or the reason why there are none."""

import shutil

import pytest

from fedclip_edge.calibration import Calibration
from fedclip_plugin.cli.main import main
from fedclip_plugin.runs import load_adapter
from fedclip_plugin.runs.adapter_file import set_calibration
from tests.support.workshop import of_method

FORGETTABLE = of_method("ridge") | {"fedclip_args__forgettable": True}
WITHOUT_PHOTO = of_method("ridge") | {
    "train_args__client_num_in_total": 2,
    "train_args__client_num_per_round": 2,
    "fedclip_args__domains": ["art_painting", "cartoon", "sketch"],
}


@pytest.fixture(scope="module")
def folder(workshop, fedml_of_the_session):
    return workshop.run_here(workshop.recipe("forgettable", **FORGETTABLE)).folder


def refused(capsys, *words):
    assert main(["forget", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_it_writes_the_bytes_of_a_run_that_never_had_the_silo(folder, workshop, tmp_path, capsys):
    assert main(["forget", str(folder.path), "--silo", "photo", "--out", str(tmp_path / "rest")]) == 0
    assert f"{tmp_path / 'rest'}: the adapter without photo" in capsys.readouterr().out
    never = workshop.run_here(workshop.recipe("never_photo", **WITHOUT_PHOTO)).folder.adapters / "final"
    assert (tmp_path / "rest" / "adapter.safetensors").read_bytes() == (never / "adapter.safetensors").read_bytes()
    found, wanted = load_adapter(tmp_path / "rest"), load_adapter(never)
    assert (found.logit_scale, found.classes, found.round) == (wanted.logit_scale, wanted.classes, wanted.round)
    assert found.metrics == {}
    assert "exists already" in refused(capsys, folder.path, "--silo", "photo", "--out", tmp_path / "rest")


def test_it_goes_into_the_run_folder_by_itself(folder, capsys):
    set_calibration(folder.adapters / "final", Calibration(2.0, 0.3, 0.05, 100))
    assert main(["forget", str(folder.path), "--silo", "cartoon"]) == 0
    found = load_adapter(folder.path / "without" / "cartoon")
    assert (found.method, found.calibration) == ("ridge", None)  # cartoon's images set the calibration too
    assert "still holds what cartoon gave (state/sums, adapters)" in capsys.readouterr().out


def test_a_silo_that_gave_nothing_is_refused_by_name(folder, capsys):
    told = refused(capsys, folder.path, "--silo", "phto")
    assert "phto gave nothing" in told
    assert "those that did are art_painting, cartoon, photo" in told


def test_what_cannot_be_taken_out_exactly_is_refused(own_job, tmp_path, capsys):
    trained = refused(capsys, own_job("fedclip").folder.path, "--silo", "photo")
    assert "is of method fedclip, which is trained" in trained
    assert "take one of ridge, ncm, gda" in trained
    unkept = refused(capsys, own_job("ridge").folder.path, "--silo", "photo")
    assert "its recipe lacks fedclip_args.forgettable: true" in unkept
    assert "holds no finished run" in refused(capsys, tmp_path, "--silo", "photo")


def test_altered_sums_are_refused(folder, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(folder.path, copy)
    weights = copy / "state" / "sums" / "state.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "differs from its checksum" in refused(capsys, copy, "--silo", "photo")
