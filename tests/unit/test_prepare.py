"""What a rank finds before training: its own images, or what is wrong, said to all."""

from types import SimpleNamespace

import pytest
import torch

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.build import build
from fedclip_plugin.federated.prepare import Preparation
from fedclip_plugin.recipe import load_recipe

CPU = torch.device("cpu")


class Alone:
    """A communicator of the server alone."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1


def prepare(recipe):
    said = []
    return Preparation(load_recipe(recipe), Alone(), CPU, progress=False, say=said.append).run(), said


def test_the_server_holds_the_target_domain_only(workshop):
    prepared, _ = prepare(workshop.recipe("alone", fedclip_args__classes=CLASSES))
    assert prepared.splits is None
    assert len(prepared.target) == 84
    assert prepared.task.classes == tuple(CLASSES)


def test_a_feature_cache_that_cannot_be_written_is_an_error_of_that_rank(workshop, tmp_path):
    (tmp_path / "file").write_text("in the way")
    recipe = workshop.recipe("no_cache", fedclip_args__feature_cache_dir=str(tmp_path / "file" / "features"))
    with pytest.raises(FedClipError, match=r"1 of 1 ranks cannot start\n  server: .*Not a directory.*features"):
        prepare(recipe)


CLASSES = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]


def test_a_main_of_ones_own_cannot_draw_silos(workshop, capsys):
    recipe = load_recipe(workshop.recipe("drawn", train_args__client_num_per_round=2))
    with pytest.raises(SystemExit, match="2"):
        build(SimpleNamespace(**recipe.flat(), rank=0, comm=Alone()), CPU)
    assert "fedclip launch, which draws silos" in capsys.readouterr().err
