"""Studies as YAML: every fault at once, overrides, and the studies that come along."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import RecipeError
from fedclip_plugin.methods import METHODS
from fedclip_plugin.recipe import (
    find_either,
    find_recipe,
    find_study,
    is_study,
    recipe_files,
    recipe_name,
    recipe_title,
    study_files,
)
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.definition.study_rules import POINTS
from tests.support.study_samples import SAMPLE, write_study

FILES = study_files()
NAMES = [recipe_name(file) for file in FILES]
RATES = [{"train_args.learning_rate": 10.0**-power} for power in range(1, 8)]


def refusal(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_study(path, overrides)
    return str(caught.value)


def case(**changes):
    return {"cases": {"one": {"title": "One", **changes}}}


def test_a_cell_s_recipe_has_base_study_case_and_point_in_this_order(tmp_path):
    study = load_study(write_study(tmp_path / "s.yaml"))
    recipe = study.cell_recipe("fedclip", "photo", 2, 1)
    assert recipe.fedclip_args.target_domain == "photo"
    assert recipe.common_args.random_seed == 2
    assert recipe.fedclip_args.images_per_class == 20
    assert recipe.train_args.learning_rate == 3e-3
    assert study.cell_recipe("fedclip_paper", "photo", 2, 0).train_args.comm_round == 40
    assert study.cells() == 40


def test_a_study_survives_a_round_trip_with_its_base_recipe_inside(tmp_path):
    study = load_study(write_study(tmp_path / "s.yaml"))
    (tmp_path / "copy.yaml").write_text(study.to_yaml())
    assert load_study(tmp_path / "copy.yaml") == study
    assert study.recipe["data_args"] == {"dataset": "miniature"}


def test_without_targets_there_is_one_cell_a_case_and_seed(tmp_path):
    shared = {"fedclip_args.domains": ["art_painting", "cartoon", "photo"]}
    study = load_study(write_study(tmp_path / "s.yaml", targets=None, set=shared))
    assert study.held_out() == (None,)
    assert study.cell_recipe("fedclip", None, 0, 0).fedclip_args.target_domain is None


def test_one_folder_of_classes_is_dealt_out_once_for_all_seeds(tmp_path):
    path = write_study(tmp_path / "s.yaml", recipe="own_images/vit_b32_sigmoid_gate_iid", set={}, targets=None)
    study = load_study(path)
    dealt = {study.cell_recipe("fedclip", None, seed, 0).data_args.partition_seed for seed in (0, 1)}
    assert dealt == {0}
    chosen = load_study(path, ["data_args.partition_seed=7"]).cell_recipe("fedclip", None, 1, 0)
    assert (chosen.data_args.partition_seed, chosen.common_args.random_seed) == (7, 1)


def test_domains_are_shared_out_among_clients_once_for_all_seeds(tmp_path):
    simulated = {
        "common_args.training_type": "simulation",
        "data_args.partition_method": "shards",
        "data_args.classes_per_client": 2,
        "train_args.client_num_in_total": 6,
        "fedclip_args.silos_per_domain": 2,
    }
    study = load_study(write_study(tmp_path / "s.yaml", set=simulated))
    parted = {study.cell_recipe("fedclip", "sketch", seed, 0).data_args.partition_seed for seed in (0, 1)}
    assert parted == {0}


def test_a_study_is_narrowed_to_some_of_its_cases(tmp_path):
    study = load_study(write_study(tmp_path / "s.yaml"))
    assert list(study.only(["clip_adapter", "fedclip"]).cases) == ["fedclip", "clip_adapter"]
    assert study.only([]) == study
    with pytest.raises(RecipeError, match=r"no case 'fedklip' \(did you mean fedclip\?\); its cases are fedclip_paper"):
        study.only(["fedklip"])


def test_an_override_wins_over_the_cases_and_cannot_touch_a_grid(tmp_path):
    path = write_study(tmp_path / "s.yaml")
    study = load_study(path, ["train_args.comm_round=2"])
    assert {study.cell_recipe(name, "photo", 0, 0).train_args.comm_round for name in study.cases} == {2}
    solved = load_study(path, ["train_args.comm_round=2", "fedclip_args.method=ridge"])
    assert {solved.cell_recipe(name, "photo", 0, 0).train_args.comm_round for name in solved.cases} == {1}
    assert "is searched by the grid of case fedclip" in refusal(path, "train_args.learning_rate=1e-3")
    assert "did you mean 'comm_round'" in refusal(path, "train_args.comm_rounds=2")
    assert "list the numbers under seeds" in refusal(path, "common_args.random_seed=2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [0, 1, 0]}, "names 0 more than once"),
        ({"seeds": [-1]}, "must be at least 0"),
        ({"seeds": []}, "must not be an empty list"),
        ({"study": "a/b"}, "must be a plain file name"),
        ({"targets": ["cartoons"]}, "did you mean 'cartoon'?"),
        ({"targets": None}, "client_num_in_total = 3: must equal the number of silos, 4"),
        (
            {"target": ["photo"]},
            "there are study, recipe, set, targets, seeds, cases (did you mean 'targets'?)",
        ),
        ({"recipe": "miniature/clip_tiny_fedclp"}, "did you mean 'miniature/clip_tiny_fedclip'?"),
        ({"set": {"train_args.comm_rounds": 3}}, "set.train_args.comm_rounds: unknown key of train_args"),
        ({"set": {"defense_args.norm_bound": 1}}, "FedML keeps defence and attack once a process"),
        ({"set": {"tracking_args.enable_wandb": True}}, "is about one run"),
        ({"set": {"fedclip_args.run_dir": "x"}}, "choose the results folder with --out"),
        ({"cases": {}}, "must hold at least one case"),
        ({"cases": {"a b": {"title": "A"}}}, 'cases.a b = "a b": must be a plain file name'),
        ({"cases": {"a": None}}, "must hold keys: title"),
        (case(titel="A"), "did you mean 'title'?"),
        (case(set={"fedclip_args.images_per_class": 9}), "all cells share it; move it to the study's set"),
        (case(set={"data_args.dataset": "pacs"}), "all cells share it"),
        (case(set={"fedclip_args.method": "fedklip"}), 'cases.one: fedclip_args.method = "fedklip"'),
        (
            case(set={"train_args.learning_rate": -1}),
            "cases.one: train_args.learning_rate = -1: must be greater",
        ),
        (case(grid=[]), "must not be an empty list"),
        (case(grid=RATES[:1] * 2), "more than once"),
        (case(grid=RATES), "at most 6 points for a method on features; it has 7"),
        (case(grid=[RATES[0], {"train_args.epochs": 2}]), "must set the same keys as the grid's first point"),
        (case(grid=[RATES[0], {"train_args.learning_rate": 0}]), "cases.one.grid[1]: train_args.learning_rate = 0"),
        (case(grid=RATES[:2], set=RATES[0]), "is set by the grid too; keep one"),
        (case(grid=[{"fedclip_args.method": "lora"}]), "cases.one.grid[0].fedclip_args.method"),
        (case(grid=[{"fedclip_args.federation": "local"}]), "makes a case of its own, not a point"),
        ({"set": {"fedclip_args.keep_rounds": 2}}, "best and final adapters are kept; leave it out"),
        (case(set={"validation_args.frequency_of_the_test": 5}), "every round is tested; leave it out"),
        (case(set={"tracking_args.enable_tensorboard": True}), "is about one run"),
        (
            {"cases": {name: {"title": "Same"} for name in ("one", "two")}},
            'cases.two.title = "Same": is the title of case one too',
        ),
        ({"set": {"fedclip_args.domains": ["target", "photo", "sketch", "x"]}}, "must not name target or server"),
        ({"set": {"fedclip_args.data_layout": "classes"}}, "targets: all images are shared out among the silos"),
        (
            {"set": {"data_args.partition_seed": 3}},
            "partition_seed = 3: only for data_layout: classes or splits or list",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changes, said, tmp_path):
    assert said in refusal(write_study(tmp_path / "s.yaml", **changes))


def test_methods_on_pixels_get_fewer_points(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "fedclip", replace(METHODS["fedclip"], inputs="pixels"))
    told = refusal(write_study(tmp_path / "s.yaml", **case(grid=RATES[:4])))
    assert f"at most {POINTS['pixels']} points for a method on pixels; it has 4" in told


def test_everything_is_told_at_once_and_nothing_twice(tmp_path):
    bad = {**SAMPLE["cases"]["fedclip"], "set": {"train_args.epochs": 0}}
    cases = {**SAMPLE["cases"], "fedclip": bad, "other": {"set": {"train_args.batch_size": 1}}}
    told = refusal(write_study(tmp_path / "s.yaml", seeds=[1, 1], cases=cases, nope=1))
    assert told.startswith(f"RECIPE: 4 errors in {tmp_path / 's.yaml'}")
    for said in ("seeds = [1, 1]", "nope = 1", "cases.other.title: is required", "train_args.epochs = 0"):
        assert told.count(said) == 1


def test_faults_of_the_base_recipe_are_told_once_and_not_for_every_case(tmp_path):
    base = yaml.safe_load(find_recipe("miniature/clip_tiny_fedclip").read_text())
    base["train_args"]["epochs"] = 0
    base["defense_args"] = {"enable_defense": True, "defense_type": "norm_diff_clipping", "norm_bound": 1.0}
    told = refusal(write_study(tmp_path / "s.yaml", recipe=base, set={}, targets=["sketch"]))
    assert told.count("train_args.epochs = 0") == 1
    assert "recipe: defense_args: FedML keeps defence" in told


def test_studies_are_no_recipes_and_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    assert not {file.parent.name for file in recipe_files()} & {"studies"}
    monkeypatch.chdir(tmp_path)
    assert (
        find_study("recipes/studies/miniature.yaml")
        == find_study("studies/miniature")
        == FILES[NAMES.index("studies/miniature")]
    )
    assert is_study(find_either("studies/pacs"))
    assert not is_study(find_either("miniature/clip_tiny_fedclip"))
    assert not is_study(Path("nowhere"))
    with pytest.raises(RecipeError, match="did you mean 'studies/miniature'"):
        find_study("studies/minature")


def test_the_study_of_label_skew_has_every_method_degree_and_participation_on_the_same_clients():
    study = load_study(find_study("studies/label_skew"))
    recipes = [study.cell_recipe(name, "sketch", 2, 0) for name in study.cases]
    seen = {
        (own.fedclip_args.method, own.data_args.partition_alpha, own.train_args.client_num_per_round) for own in recipes
    }
    methods = ("fedclip", "sigmoid_gate", "clip_adapter", "linear_probe", "prompt", "text_lora")
    degrees = (0.1, 1, 100)
    drawn = {(method, alpha, 6) for method in methods for alpha in degrees}
    every = {(method, 0.1, 60) for method in ("fedclip", "sigmoid_gate", "linear_probe")}
    assert seen == drawn | every | {(method, alpha, 60) for method in ("ridge", "ncm", "gda") for alpha in degrees}
    assert all(own.simulated and own.train_args.client_num_in_total == 60 for own in recipes)
    assert {own.data_args.partition_seed for own in recipes} == {0}


def test_the_studies_of_protocols_have_their_methods():
    base_new, shots = (load_study(find_study(f"studies/{name}")) for name in ("base_new", "few_shots"))
    recipes = [base_new.cell_recipe(name, "sketch", 0, 0) for name in base_new.cases]
    on_features = {name for name, method in METHODS.items() if not method.on_pixels} - {"zero_shot"}
    assert {own.fedclip_args.method for own in recipes} == on_features
    assert {own.fedclip_args.class_split for own in recipes} == {"base_new"}
    drawn = [shots.cell_recipe(name, "sketch", 0, 0).fedclip_args for name in shots.cases]
    methods = ("fedclip", "sigmoid_gate", "linear_probe", "clip_adapter", "ridge", "gda")
    assert [(own.method, own.shots) for own in drawn] == [(name, k) for name in methods for k in (1, 2, 4, 8, 16)]
    parted = load_study(find_study("studies/disjoint_classes"))
    found = [parted.cell_recipe(name, "sketch", 0, 0).data_args for name in parted.cases]
    assert [(own.partition_method, own.classes_per_client) for own in found] == [("classes", 1)] * 5 + [
        ("classes", 2)
    ] * 5


SIMULATED = {
    "study": "sample",
    "recipe": "simulation/clip_tiny_fedclip",
    "set": {},
    "targets": ["sketch"],
}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data_args.partition_alpha": 1, "data_args.partition_method": "hetero"}, ""),
        ({"train_args.client_num_per_round": 60}, ""),
        ({"data_args.partition_seed": 1}, "all cells share it"),
        ({"comm_args.backend": "sp"}, "all cells share it"),
        ({"device_args.worker_num": 2}, "all cells share it"),
        ({"fedclip_args.silos_per_domain": 10}, "all cells share it"),
        ({"fedclip_args.federation": "local"}, "only counted on a target in a simulation; leave targets out"),
        ({"train_args.client_num_per_round": 61}, "client_num_per_round = 61"),
    ],
)
def test_cases_of_simulations_may_share_images_out_differently(settings, said, tmp_path):
    path = write_study(tmp_path / "s.yaml", **SIMULATED, **case(set=settings))
    if said:
        assert said in refusal(path)
    else:
        assert load_study(path).cell_recipe("one", "sketch", 1, 0).data_args.partition_seed == 0


def test_updates_that_are_lost_are_drawn_with_every_seed(tmp_path):
    given = SIMULATED | case(set={"fedclip_args.client_drop_rate": 0.4})
    assert load_study(write_study(tmp_path / "fine.yaml", **given, seeds=[0, 2])).seeds == (0, 2)
    told = refusal(write_study(tmp_path / "s.yaml", **given, seeds=[0, 1, 2]))
    assert told.count("client_drop_rate = 0.4") == 1
    assert "by random_seed 1: round 21 (0 of 6)" in told


def test_own_adapters_of_all_cases_on_targets_are_refused_once(tmp_path):
    path = write_study(tmp_path / "s.yaml", **SIMULATED | {"set": {"fedclip_args.federation": "local"}})
    assert refusal(path).count("only counted on a target in a simulation") == 1


def test_validate_and_ls_tell_of_studies(capsys, tmp_path):
    path = write_study(tmp_path / "s.yaml")
    assert main(["validate", str(path), "miniature/clip_tiny_fedclip"]) == 0
    told = capsys.readouterr().out
    assert "valid study; 3 cases, 4 targets, 3 seeds, 40 cells" in told
    assert "valid; 3 silos" in told
    write_study(path, seeds=["a"])
    assert main(["validate", str(path)]) == 2
    assert "must be a whole number" in capsys.readouterr().err
    assert main(["ls"]) == 0
    assert "studies/miniature" in capsys.readouterr().out


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_every_study_is_valid_and_its_header_tells_the_truth(file):
    study, header = load_study(file), file.read_text().split("\n\n", 1)[0]
    assert file.stem == study.study
    protocols = ("Base-to-new classes on ", "Few shots on ", "Disjoint classes on ", "Label skew among 60 simulated ")
    protocols += ("Privacy on ",)
    assert recipe_title(file).startswith(("FedCLIP and its baselines on ", *protocols))
    assert f"fedclip study recipes/studies/{file.name}" in header
    assert f"{study.cells():,} federations" in header
    recipe = study.cell_recipe(next(iter(study.cases)), study.targets[0], 0, 0)
    assert ("a worker for each core" if recipe.simulated else f"{recipe.rank_count()} ranks") in header
    for given in re.findall(r"--set (\S+)", header):
        assert load_study(file, [given]).cells() == study.cells()


def test_the_study_of_privacy_tells_the_loss_from_the_noise():
    study = load_study(find_study("studies/privacy"))
    cells = {name: study.cell_recipe(name, "sketch", 0, 0).fedclip_args for name in study.cases}
    assert {own.dp_target_epsilon for own in cells.values()} == {None, 1.0, 3.0, 8.0, 30.0}
    without = {name: own for name, own in cells.items() if own.dp_target_epsilon is None}
    assert {own.method for own in without.values() if own.loss} == {"fedclip", "sigmoid_gate"}
    assert {own.method for own in without.values() if not own.loss} == {own.method for own in cells.values()}


def test_the_studies_cover_what_is_promised():
    promised = ("base_new", "disjoint_classes", "domainnet", "few_shots", "label_skew", "miniature", "office_home")
    promised += ("pacs", "privacy", "vlcs")
    assert [f"studies/{name}" for name in promised] == NAMES
    study = load_study(find_study("studies/miniature"))
    recipes = [study.cell_recipe(name, "sketch", 0, 0) for name in study.cases]
    assert {recipe.train_args.comm_round for recipe in recipes} == {1, 6, 15, 30, 200}
    assert {recipe.fedclip_args.method for recipe in recipes} == set(METHODS) - {"zero_shot"}
    assert {recipe.fedclip_args.codec for recipe in recipes} == {"none", "fp16", "int8"}
    assert {recipe.fedclip_args.server_optimizer for recipe in recipes} == {"none", "sgd", "adam"}
    assert any(recipe.fedclip_args.federation == "local" for recipe in recipes)
    assert any(recipe.fedclip_args.personal_epochs for recipe in recipes)
    assert study.settings["fedclip_args.images_per_class"] >= 200
    assert (len(study.targets), len(study.seeds)) == (4, 5)
    for recipe in recipes:
        if METHODS[recipe.fedclip_args.method].on_pixels:
            assert recipe.train_args.comm_round == 6
