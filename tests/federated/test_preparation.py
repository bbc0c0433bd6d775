"""What a rank finds before training: its own images, or what is wrong, said to all."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.errors import FedClipError, RunFolderError
from fedclip_plugin.federated import job
from fedclip_plugin.federated.build import build, require_plain
from fedclip_plugin.federated.privacy.accountant import Mechanism
from fedclip_plugin.federated.privacy.ledger import Ledger
from fedclip_plugin.federated.privacy.silo_privacy import LEDGER
from fedclip_plugin.federated.startup import memory_check, preflight
from fedclip_plugin.federated.startup.memory_estimate import footprint
from fedclip_plugin.federated.startup.preflight import open_run
from fedclip_plugin.federated.startup.preparation import Preparation
from fedclip_plugin.federated.startup.start_messages import Room
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.runs import RunFolder
from tests.support.mpi_world import World
from tests.support.workshop import of_method

CPU = torch.device("cpu")


class Alone:
    """A communicator of the server alone."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1

    def Split_type(self, kind):
        return self

    def Free(self):
        pass


def prepare(recipe):
    said = []
    return Preparation(load_recipe(recipe), Alone(), CPU, progress=False, say=said.append).run(), said


def test_the_server_holds_the_target_domain_only(workshop):
    prepared, _ = prepare(workshop.recipe("alone", fedclip_args__classes=CLASSES))
    assert prepared.splits is None
    assert len(prepared.target) == 84
    assert prepared.task.classes == tuple(CLASSES)


def test_the_sample_range_goes_from_the_recipe_to_the_adapter(workshop):
    recipe = workshop.recipe("ranged", fedclip_args__classes=CLASSES, fedclip_args__sample_range=[0, 4095])
    assert prepare(recipe)[0].task.sample_range == (0, 4095)


def test_a_feature_cache_that_cannot_be_written_is_an_error_of_that_rank(workshop, tmp_path):
    (tmp_path / "file").write_text("in the way")
    recipe = workshop.recipe("no_cache", fedclip_args__feature_cache_dir=str(tmp_path / "file" / "features"))
    with pytest.raises(FedClipError, match=r"server: the feature cache .*features cannot be written \(Not a dir"):
        prepare(recipe)


CLASSES = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]


def test_classes_that_look_the_same_are_refused_before_images_are_encoded(workshop, tmp_path):
    changes = {"classes": CLASSES, "prompt_template": "very " * 40 + "{}", "feature_cache_dir": str(tmp_path)}
    recipe = workshop.recipe("cut_off", **{f"fedclip_args__{key}": value for key, value in changes.items()})
    with pytest.raises(FedClipError, match="all 7 classes look the same to CLIP"):
        prepare(recipe)
    assert list(tmp_path.glob("*/fp32/*")) == []


def test_a_broken_backbone_is_refused_before_images_are_encoded(workshop, tmp_path):
    clip = shutil.copytree(locate_backbone(BUILT_IN), tmp_path / "clip")
    (clip / "tokenizer.json").unlink()
    changes = {"classes": CLASSES, "backbone": str(clip), "feature_cache_dir": str(tmp_path / "features")}
    recipe = workshop.recipe("broken", **{f"fedclip_args__{key}": value for key, value in changes.items()})
    with pytest.raises(FedClipError, match=r"1 of 1 ranks cannot start\n  server: backbone .* has no tokenizer"):
        prepare(recipe)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_args__client_num_per_round": 2}, ["client_num_per_round = 2: every silo takes part", "set it to 3"]),
        ({"fedclip_args__codec": "int8"}, ["codec = int8: adapters travel as they are; set it to none"]),
        (
            {"fedclip_args__federation": "local", "fedclip_args__personal_epochs": 2},
            ["federation = local: every silo goes on from the average", "personal_epochs = 2: silos are done"],
        ),
        ({"tracking_args__enable_tensorboard": True}, ["enable_tensorboard = True: nobody collects"]),
        (of_method("ridge"), ["method = ridge: FedML's runner averages, and this method is solved"]),
    ],
)
def test_a_main_of_ones_own_is_refused_what_only_our_runner_does(workshop, capsys, changes, told):
    recipe = load_recipe(workshop.recipe("plain", **changes))
    with pytest.raises(SystemExit, match="2"):
        build(SimpleNamespace(**recipe.flat(), rank=0, comm=Alone()), CPU)
    said = capsys.readouterr().err
    assert all(words in said for words in [*told, "start it with fedclip launch"])


def test_a_main_of_ones_own_may_ask_for_what_the_pair_does_itself(workshop):
    changes = {"proximal_mu": 0.1, "server_optimizer": "adam", "server_lr": 0.01, "augmented_views": 2}
    recipe = load_recipe(workshop.recipe("pair", **{f"fedclip_args__{key}": value for key, value in changes.items()}))
    assert require_plain(recipe) is None


def opened(comm, place, recipe):
    return open_run(comm, RunFolder(place / "run"), load_recipe(recipe), resume=False).rounds


def test_a_run_begins_where_there_is_room(workshop, tmp_path):
    assert opened(Alone(), tmp_path, workshop.recipe("roomy")) == 0
    assert (tmp_path / "run" / "recipe.yaml").is_file()


class Listener:
    """What a job tells of itself; it is to end before training."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_a_finished_run_has_nothing_to_train_and_takes_no_fresh_one(own_job, monkeypatch):
    folder, listener = own_job("fedclip").folder, Listener()
    recipe, before = load_recipe(folder.recipe), folder.metrics.read_bytes()
    monkeypatch.setattr(job, "start_fedml", lambda *given: SimpleNamespace(rank=0, comm=Alone(), comm_round=3))
    job.run_job(recipe, folder, resume=True, progress=False, observer=listener)
    assert listener.said == [f"{folder.path} has all 3 rounds already: nothing to train"]
    with pytest.raises(RunFolderError, match="already holds a run of 3 rounds: add --resume"):
        job.run_job(recipe, folder, resume=False, progress=False, observer=listener)
    assert folder.metrics.read_bytes() == before


def little_memory(monkeypatch, server):
    """Leave 0.1 GB to every rank, or to every silo."""
    real = memory_check.RankMemory

    def here(is_server):
        return real(is_server, *((10**12, 0) if is_server and not server else (10**8, 10**8)))

    monkeypatch.setattr(memory_check.RankMemory, "here", here)


def test_a_run_that_cannot_fit_begins_nowhere(workshop, tmp_path, monkeypatch):
    little_memory(monkeypatch, server=True)
    with pytest.raises(FedClipError, match=r"server: .* on this host: 0\.7 GB for the server.*there are 0\.6 GB"):
        opened(Alone(), tmp_path, workshop.recipe("crowded"))
    assert not (tmp_path / "run").exists()


def test_a_machine_is_judged_by_its_own_ranks_and_only_a_shortage_leaves_it(workshop, tmp_path, monkeypatch, capfd):
    recipe, world = load_recipe(workshop.recipe("hosts")), World(4, ["near", "far", "far", "far"])
    little_memory(monkeypatch, server=False)
    told = world.together(lambda comm: open_run(comm, RunFolder(tmp_path / "run"), recipe, resume=False))
    assert str(told[0]).splitlines() == [
        "1 of 4 ranks cannot start",
        "  art_painting: its machine has too little memory: up to 2.3 GB are needed there, and there are 0.8 GB "
        "(MemoryShortageError; its own line, or its log, says it in full)",
    ]
    assert {type(content).__name__ for *_, content in world.crossed} == {"Present", "GoOn", "Room", "CannotStart"}
    assert world.crossed.count((2, 0, Room())) == world.crossed.count((3, 0, Room())) == 1
    assert capfd.readouterr().err.count("fedclip: art_painting (rank 1): this federation takes up to 2.3 GB") == 1


@pytest.mark.parametrize("logged", [False, True])
def test_a_machine_whose_silos_keep_a_log_is_judged_by_what_that_takes(workshop, tmp_path, monkeypatch, logged):
    needs, recipe = [], load_recipe(workshop.recipe("logging"))
    for name in ("FEDCLIP_SILO_POLICY", "FEDCLIP_EGRESS_LOG"):
        monkeypatch.delenv(name, raising=False)
    if logged:
        monkeypatch.setenv("FEDCLIP_EGRESS_LOG", str(tmp_path / "egress"))
    monkeypatch.setattr(preflight, "require_memory_of", lambda need, ranks: needs.append(need))
    World(4).together(lambda comm: open_run(comm, RunFolder(tmp_path / "run"), recipe, resume=False))
    assert needs == [footprint(recipe, locate_backbone(BUILT_IN), logged=logged)]


def test_a_disk_too_small_for_the_adapters_is_refused_beforehand(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**8))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    monkeypatch.setattr(
        "fedclip_plugin.federated.startup.preflight.locate_backbone", lambda name: tmp_path
    )  # ViT-B/32's shape
    changes = {"fedclip_args__method": "full"}
    with pytest.raises(RunFolderError, match="has 100 MB free and the run needs 3647 MB"):
        opened(Alone(), tmp_path, workshop.recipe("full_disk", **changes))
    assert opened(Alone(), tmp_path, workshop.recipe("small_disk")) == 0


def test_a_missing_backbone_is_left_to_the_roll_call(workshop, tmp_path):
    assert opened(Alone(), tmp_path, workshop.recipe("nowhere", fedclip_args__backbone="./nowhere")) == 0


def together(recipe):
    def prepare(comm):
        return Preparation(load_recipe(recipe), comm, CPU, progress=False, say=lambda text: None).run()

    return World(4, ["here"] * 4).together(prepare)


def test_a_silo_trains_on_so_many_shots_of_each_class_and_is_tested_on_all(workshop):
    server, *silos = together(workshop.recipe("shots", fedclip_args__shots=3))
    assert server.sizes == ({"train": 21, "validation": 16, "test": 16},) * 3
    assert all(torch.bincount(own.splits.train.labels).tolist() == [3] * 7 for own in silos)


def test_more_shots_than_a_silo_has_are_refused_before_images_are_encoded(workshop, tmp_path, capfd):
    changes = {"fedclip_args__shots": 9, "fedclip_args__feature_cache_dir": str(tmp_path)}
    told = together(workshop.recipe("too_many_shots", **changes))
    assert str(told[0]).startswith("3 of 4 ranks cannot start")
    assert capfd.readouterr().err.count("shots is 9, and its training split has fewer images of 6 of its 7 cl") == 3
    assert list(tmp_path.glob("*/fp32/*")) == []


@pytest.mark.parametrize(("rounds", "spent"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_silo_says_whether_its_ledger_leaves_room_for_another_round(workshop, tmp_path, rounds, spent):
    class Silo(Alone):
        def Get_rank(self):
            return 1

    target = Mechanism(1.0, 0.1, 5).epsilon(2, 1e-3, 3) * 1.001
    given = {"dp_target_epsilon": target, "dp_noise_multiplier": 1.0, "dp_delta": 1e-3, "classes": CLASSES}
    recipe = load_recipe(workshop.recipe("spent", **{f"fedclip_args__{key}": value for key, value in given.items()}))
    folder = RunFolder(tmp_path / "run")
    preparation = Preparation(recipe, Silo(), CPU, progress=False, say=print, folder=folder)
    Ledger(1.0, 0.1, 5, 1e-3, 1.0, rounds).save(folder.personal(recipe.silo_names()[0]) / LEDGER)
    card = next(preparation.steps()).card
    assert (card.fault, card.spent) == ("", spent)
