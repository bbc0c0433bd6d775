"""What a federation takes is known from its recipe, and what cannot fit is refused with figures and remedies."""

import json
from pathlib import Path

import pytest

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.errors import BackboneError, MemoryShortageError
from fedclip_plugin.federated.startup import memory_check
from fedclip_plugin.federated.startup.memory_check import (
    RankMemory,
    available_bytes,
    cgroup_rooms,
    require_memory,
    require_memory_here,
    require_memory_of,
)
from fedclip_plugin.federated.startup.memory_estimate import BASE_OWN, BASE_SHARED, Footprint, footprint, update_bytes
from fedclip_plugin.federated.startup.preflight import adapter_space
from fedclip_plugin.methods import METHODS
from fedclip_plugin.recipe import find_recipe, find_study, load_recipe, recipe_files
from fedclip_plugin.study.definition import load_study
from tests.support.workshop import of_method

GB = 10**9


@pytest.fixture
def vit_b32(tmp_path):
    """A folder that says no more than that it is a CLIP of transformers' defaults, ViT-B/32."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    return tmp_path


def recipe(**settings):
    if METHODS[settings.get("fedclip_args__method", "fedclip")].on_pixels:
        settings = {"fedclip_args__augmented_views": 0} | settings
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return load_recipe(find_recipe("miniature/clip_tiny_fedclip"), overrides)


def silo(folder, **settings):
    return footprint(recipe(**settings), folder).silo


def server(folder, **settings):
    return footprint(recipe(**settings), folder).server


def test_parameters_are_counted_without_the_weights(vit_b32):
    from transformers import CLIPModel

    built_in = locate_backbone(BUILT_IN)
    model = CLIPModel.from_pretrained(built_in, local_files_only=True)
    assert read_clip_config(built_in).parameters == sum(parameter.numel() for parameter in model.parameters())
    assert read_clip_config(vit_b32).parameters == 151_277_313


@pytest.mark.parametrize(
    "config", [{"vision_config": {"patch_size": 0}}, {"vision_config": []}, {"text_config": {"hidden_size": "wide"}}]
)
def test_a_configuration_of_something_else_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | config))
    with pytest.raises(BackboneError, match="does not describe a CLIP"):
        read_clip_config(tmp_path)


def test_a_small_adapter_takes_little_more_than_the_framework(vit_b32):
    found = footprint(recipe(), locate_backbone(BUILT_IN))
    assert BASE_OWN < found.silo < BASE_OWN + 0.1 * GB
    assert BASE_OWN < found.server < BASE_OWN + 0.1 * GB


def test_full_fine_tuning_of_vit_b32_holds_weights_gradients_and_moments(vit_b32):
    model = 4 * 151_277_313
    assert silo(vit_b32, fedclip_args__method="full") > BASE_OWN + 4 * model
    assert footprint(recipe(fedclip_args__method="full"), vit_b32).on_host(2, server=True) < 24 * GB


@pytest.mark.parametrize(
    ("rank", "less", "more"),
    [
        (silo, {}, {"fedclip_args__method": "lora"}),
        (silo, {"fedclip_args__method": "lora"}, {"fedclip_args__method": "full"}),
        (silo, {"fedclip_args__method": "full"}, {"train_args__batch_size": 64}),
        (silo, {"fedclip_args__method": "full"}, {"fedclip_args__proximal_mu": 0.1}),
        (silo, {"fedclip_args__method": "full"}, {"fedclip_args__codec": "int8"}),
        (
            server,
            {"fedclip_args__method": "full", "train_args__client_num_per_round": 2},
            {"train_args__client_num_per_round": 3},
        ),
        (
            server,
            {"fedclip_args__method": "full"},
            {"fedclip_args__server_optimizer": "adam", "fedclip_args__server_lr": 0.01},
        ),
        (silo, {}, {"fedclip_args__encode_batch_size": 512}),
        (silo, {"fedclip_args__method": "full"}, {"fedclip_args__secure_sums": "true"}),
        (server, {"fedclip_args__method": "full"}, {"fedclip_args__secure_sums": "true"}),
    ],
)
def test_what_takes_more_is_estimated_higher(vit_b32, rank, less, more):
    assert rank(vit_b32, **less) < rank(vit_b32, **(less | more))


@pytest.mark.parametrize(("codec", "more"), [("none", 605_109_252), ("int8", 0)])
def test_a_silo_that_logs_keeps_the_adapter_that_came_where_no_codec_does(vit_b32, codec, more):
    full = recipe(fedclip_args__method="full", fedclip_args__codec=codec)
    plain, logged = (footprint(full, vit_b32, logged=each) for each in (False, True))
    assert logged.silo - plain.silo == pytest.approx(1.1 * more, abs=1)
    assert (logged.server, logged.one_process) == (plain.server, plain.one_process)


@pytest.mark.parametrize("variable", ["FEDCLIP_SILO_POLICY", "FEDCLIP_EGRESS_LOG"])
def test_a_machine_with_a_policy_or_a_log_needs_the_room_for_it(monkeypatch, tmp_path, vit_b32, variable):
    monkeypatch.setattr(memory_check, "locate_backbone", Path)  # its weights are not here
    for name in ("FEDCLIP_SILO_POLICY", "FEDCLIP_EGRESS_LOG"):
        monkeypatch.delenv(name, raising=False)
    full = recipe(fedclip_args__backbone=vit_b32, fedclip_args__method="full")
    with_room(monkeypatch, round(0.85 * footprint(full, vit_b32).on_host(3, server=True)) + 1)
    assert require_memory_here([full]) is None
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    with pytest.raises(MemoryShortageError, match=r"3 x 6\.\d GB for silos"):
        require_memory_here([full])


def test_very_many_images_weigh(vit_b32):
    few, many = (footprint(recipe(), vit_b32, images) for images in (0, 600_000))
    assert many.silo - few.silo > 4 * 512 * 600_000


def test_libraries_are_counted_once_a_host():
    need = Footprint(server=3 * GB, silo=2 * GB)
    assert need.on_host(2, server=True) == BASE_SHARED + 7 * GB
    assert need.on_host(1, server=False) == BASE_SHARED + 2 * GB


def test_what_does_not_fit_is_refused_with_figures_and_remedies():
    with pytest.raises(MemoryShortageError) as caught:
        require_memory(Footprint(server=3 * GB, silo=2 * GB), silos=2, server=True, room=5 * GB)
    text = str(caught.value)
    assert "up to 7.4 GB of memory on this host" in text
    assert "2 x 2.0 GB for silos, 3.0 GB for the server, 0.4 GB for libraries" in text
    assert "there are 5.0 GB" in text
    for remedy in ("client_num_in_total", "batch_size", "--hostfile"):
        assert remedy in text


@pytest.mark.parametrize(("server", "room"), [(False, 5 * GB), (True, 7.4 * GB), (True, 6.4 * GB)])
def test_what_fits_or_may_just_fit_starts(server, room):
    assert require_memory(Footprint(server=3 * GB, silo=2 * GB), silos=2, server=server, room=room) is None


def test_ranks_that_have_begun_are_judged_together_on_their_host():
    need = Footprint(server=3 * GB, silo=3 * GB)
    server, photo = RankMemory(True, 3 * GB, 2 * GB), RankMemory(False, 3 * GB, 2 * GB)
    assert require_memory_of(need, [server, photo]) is None
    assert require_memory_of(need, [RankMemory(False, 3 * GB, GB)]) is None
    with pytest.raises(MemoryShortageError, match=r"on this host: 2 x 3\.0 .* 3\.0 GB for the serv"):
        require_memory_of(need, [server, photo, RankMemory(False, 10**8, GB)])
    with pytest.raises(MemoryShortageError, match=r"host: 1 x 3\.0 GB for silos, 0\.4 GB for libraries") as caught:
        require_memory_of(need, [RankMemory(False, 10**9, GB // 2)])
    assert (caught.value.needed, caught.value.there) == (3 * GB + BASE_SHARED, 15 * GB // 10 + BASE_SHARED)


def test_a_rank_tells_of_its_host_and_of_itself():
    assert 10**7 < RankMemory.here(False).held < RankMemory.here(False).available


def with_room(monkeypatch, room):
    monkeypatch.setattr(memory_check, "available_bytes", lambda: room)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_machine_runs_every_method_on_the_miniature(monkeypatch, method):
    with_room(monkeypatch, 3 * GB)
    assert require_memory_here([recipe(**of_method(method))]) is None


def test_a_small_machine_runs_the_miniatures_recipes_and_study(monkeypatch):
    with_room(monkeypatch, 3 * GB)
    recipes = [load_recipe(path) for path in recipe_files() if path.parent.name == "miniature"]
    study = load_study(find_study("studies/miniature"))
    cells = [study.cell_recipe(name, "photo", 0, 0) for name in study.cases]
    assert len(recipes) >= 2
    assert require_memory_here([*recipes, *cells]) is None


def test_the_largest_of_several_counts(monkeypatch, vit_b32):
    with_room(monkeypatch, 12 * GB)
    monkeypatch.setattr(
        "fedclip_plugin.federated.startup.memory_check.locate_backbone", Path
    )  # its weights are not here
    small = recipe(fedclip_args__backbone=vit_b32)
    large = recipe(fedclip_args__backbone=vit_b32, fedclip_args__method="full")
    assert require_memory_here([small]) is None
    with pytest.raises(MemoryShortageError, match=r"3 x 5\.\d GB for silos, 6\.\d GB for the server"):
        require_memory_here([small, large, small])


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        ({}, 6),
        ({"fedclip_args__keep_rounds": 1}, 4),
        ({"fedclip_args__codec": "int8"}, 9),
        ({"fedclip_args__server_optimizer": "adam", "fedclip_args__server_lr": 0.01}, 12),
        ({"fedclip_args__server_optimizer": "sgd"}, 6),
        ({"fedclip_args__server_optimizer": "sgd", "fedclip_args__server_momentum": 0.9}, 9),
    ],
)
def test_a_run_asks_for_the_disk_that_its_adapters_and_states_take(vit_b32, settings, rounds):
    full = recipe(fedclip_args__method="full", **settings)
    assert update_bytes(full, vit_b32) == 605_109_252
    assert adapter_space(full, update_bytes(full, vit_b32)) == rounds * 605_109_252


def test_this_host_has_memory():
    assert 10**8 < available_bytes() < 10**14


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


def test_limits_of_control_groups_are_found(tmp_path):
    own, root = tmp_path / "own", tmp_path / "groups"
    own.write_text("4:memory:/job/step\n1:cpu:/\n0::/user/job\n")
    stat = "total_inactive_file 5\ntotal_active_file 5\ninactive_file 20\nactive_file 10\n"
    write(root / "memory/job/step", memory__limit_in_bytes=1000, memory__usage_in_bytes=600, memory__stat=stat)
    write(root / "memory/job", memory__limit_in_bytes=700, memory__usage_in_bytes=900, memory__stat=stat)
    write(root / "user/job", memory__max="max", memory__current=5, memory__stat=stat)
    write(root / "user", memory__max=2000, memory__current=500, memory__stat=stat)
    assert list(cgroup_rooms(own, root)) == [410, 0, 1530]


def test_a_host_without_control_groups_has_no_such_limit(tmp_path):
    assert list(cgroup_rooms(tmp_path / "missing", tmp_path)) == []
