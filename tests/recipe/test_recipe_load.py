"""From YAML to a recipe, to FedML's flat arguments and back."""

import copy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.recipe.schema.sections import NOT_IN_DIGEST, SECTIONS

TEXT = """
common_args: {training_type: cross_silo}
data_args: {dataset: pacs}
train_args:
  federated_optimizer: FedAvg
  client_num_in_total: 5
  client_num_per_round: 5
  comm_round: 5
  learning_rate: 5e-5
validation_args: {frequency_of_the_test: 1}
comm_args: {backend: MPI}
fedclip_args: {data_root: data/PACS}
"""
GUARDS = [
    *("defense_args.enable_defense=true", "defense_args.defense_type=norm_diff_clipping"),
    *("defense_args.norm_bound=0.05", "attack_args.enable_attack=true", "attack_args.attack_type=byzantine"),
    *("attack_args.attack_mode=flip", "attack_args.byzantine_client_num=2"),
]
NOISE = ["fedclip_args.dp_target_epsilon=8", "fedclip_args.dp_delta=1e-6", "fedclip_args.dp_noise_multiplier=2"]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT)
    return file


def refusal(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("text", ["5e-5", "5E-05", "0.5e-4", "5.e-5", ".5e-4", "'5e-5'", "0.00005"])
def test_every_spelling_of_a_small_number_is_that_number(path, text):
    assert load_recipe(path, [f"train_args.learning_rate={text}"]).train_args.learning_rate == pytest.approx(5e-5)


RANGE = "fedclip_args.sample_range=[0, 4095]"


@pytest.mark.parametrize("overrides", [[], GUARDS, NOISE, ["fedclip_args.data_root=/srv/{silo}/i"], [RANGE]])
def test_a_recipe_survives_yaml_and_fedml(path, overrides):
    recipe = load_recipe(path, overrides)
    path.write_text(recipe.to_yaml())

    assert load_recipe(path) == recipe
    assert Recipe.from_flat(recipe.flat()) == recipe
    assert load_recipe(path).digest() == recipe.digest()


def test_flat_holds_plain_values_and_what_fedml_needs(path):
    flat = load_recipe(path, NOISE).flat()

    assert {type(value) for value in flat.values()} <= {str, int, float, bool, list}
    assert flat["client_id_list"] == "[]"
    assert flat["using_mlops"] is False
    needed = "training_type backend dataset federated_optimizer client_num_in_total client_num_per_round "
    needed += "comm_round frequency_of_the_test scenario random_seed"
    assert set(needed.split()) <= set(flat)
    assert "worker_num" not in flat


def test_fedml_arguments_bring_keys_of_their_own(path):
    recipe = load_recipe(path)
    fedml = recipe.flat() | {
        "rank": 2,
        "worker_num": 5,
        "client_id_list": "[2]",
        "role": "client",
        "comm": object(),
    }

    assert Recipe.from_flat(fedml) == recipe


@pytest.mark.parametrize("key", ["enable_fhe", "max_grad_norm", "enable_contribution", "enable_dp"])
def test_unsafe_keys_are_found_in_fedml_arguments_too(path, key):
    with pytest.raises(RecipeError, match=f"{key} = true"):
        Recipe.from_flat(load_recipe(path).flat() | {key: True})


def test_sections_that_are_only_switched_off_are_none(path):
    path.write_text(TEXT + "dp_args: {enable_dp: false}\n")
    recipe = load_recipe(path, ["attack_args.enable_attack=false"])

    assert recipe.attack_args is None
    assert Recipe.from_flat(recipe.flat() | {"enable_dp": False}) == recipe


def test_optional_keys_default_to_none_so_that_leaving_them_out_loses_nothing():
    fields = [field for model in SECTIONS.values() for field in model.model_fields.values()]
    optional = [field for field in fields if type(None) in getattr(field.annotation, "__args__", ())]

    assert optional
    assert all(field.default is None for field in optional)


def test_no_two_sections_share_a_key_but_fedml_s_own():
    keys = [key for model in SECTIONS.values() for key in model.model_fields]

    assert {key for key in keys if keys.count(key) > 1} == {"byzantine_client_num"}


def test_a_recipe_is_read_only_and_its_rules_hold_in_python_too(path):
    recipe = load_recipe(path)
    sections = recipe.model_dump()
    sections["train_args"]["client_num_per_round"] = 6

    with pytest.raises(RecipeError, match="at most client_num_in_total"):
        Recipe(**sections)
    with pytest.raises(ValueError, match="frozen"):
        recipe.train_args.comm_round = 6


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], None),
        (
            ["fedclip_args.domains=[a, b, c, d, e, f]", "fedclip_args.target_domain=b"],
            ("a", "c", "d", "e", "f"),
        ),
        (["fedclip_args.data_layout=silos", "fedclip_args.silos=[e, d, c, b, a]"], ("e", "d", "c", "b", "a")),
        (
            ["fedclip_args.data_layout=classes", "data_args.partition_method=homo"],
            ("silo_1", "silo_2", "silo_3", "silo_4", "silo_5"),
        ),
    ],
)
def test_silos_are_named_in_their_order(path, overrides, names):
    assert load_recipe(path, overrides).silo_names() == names


def test_the_digest_knows_the_columns_of_a_list_and_not_its_place():
    recipe = find_recipe("own_images/vit_b32_sigmoid_gate_list")
    digest = load_recipe(recipe).digest()
    assert load_recipe(recipe, ["fedclip_args.data_list=/elsewhere/x.csv"]).digest() == digest
    for key in ("file", "label", "silo", "group", "split"):
        assert load_recipe(recipe, [f"fedclip_args.{key}_column=other"]).digest() != digest


def test_the_digest_knows_what_defines_the_result(path):
    digest = load_recipe(path).digest()

    assert load_recipe(path, ["train_args.learning_rate=1e-4"]).digest() != digest
    assert load_recipe(path, ["fedclip_args.prompt_template=a {}"]).digest() != digest
    assert load_recipe(path, [RANGE]).digest() == load_recipe(path, [f"{RANGE[:-1]}.0]"]).digest() != digest
    for override in ("train_args.comm_round=9", "fedclip_args.run_dir=x", "fedclip_args.round_timeout=9"):
        assert load_recipe(path, [override]).digest() == digest
    assert all(keys <= set(SECTIONS[name].model_fields) for name, keys in NOT_IN_DIGEST.items())


def test_ranks_of_one_job_must_have_its_rounds_alike_too(path):
    digest = load_recipe(path).job_digest()
    for override in ("train_args.comm_round=9", "fedclip_args.min_silos=2", "fedclip_args.calibrate=false"):
        assert load_recipe(path, [override]).job_digest() != digest
    graces = {
        load_recipe(path, ["fedclip_args.min_silos=2", *grace]).job_digest()
        for grace in ([], ["fedclip_args.round_grace=2"])
    }
    assert len(graces) == 2, "a server with a grace and a silo without one wait for different messages in the end"
    assert load_recipe(path, ["train_args.learning_rate=1e-4"]).job_digest() != digest
    for override in ("fedclip_args.run_dir=x", "fedclip_args.round_timeout=9", "fedclip_args.start_timeout=9"):
        assert load_recipe(path, [override]).job_digest() == digest


def test_paths_know_home_and_variables_and_stay_relative(path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/op")
    monkeypatch.setenv("IMAGES", "/srv/images")

    recipe = load_recipe(
        path,
        ["fedclip_args.run_dir=~/runs", "fedclip_args.data_root=${IMAGES}/x", "fedclip_args.backbone=~/clip"],
    )

    assert recipe.fedclip_args.run_dir == Path("/home/op/runs")
    assert recipe.fedclip_args.data_root == Path("/srv/images/x")
    assert recipe.fedclip_args.backbone == "/home/op/clip"
    assert recipe.fedclip_args.feature_cache_dir == Path(".fedclip/features")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train_args.comm_rounds=3", "did you mean 'comm_round'?"),
        ("trainargs.comm_round=3", "did you mean 'train_args'?"),
        ("comm_round=3", "write train_args.comm_round"),
        ("comm_rond=3", "did you mean 'train_args.comm_round'?"),
        ("train_args=3", "is a section"),
        ("train_args.comm_round", "must be section.key=value"),
        ("common_args.comm_round=3", "belongs to train_args"),
        ("defense_args.max_grad_norm=1", "clips the weights"),
        ("dp_args.epsilon=1", "fedclip_args.dp_target_epsilon"),
        ("fedclip_args.classes=[a", "must be a list"),
        ("fedclip_args.classes=2024-13-45", "put it in quotes"),
        ("train_args.comm_round=", "train_args.comm_round: is required"),
        ("train_args.comm_round=many", "must be a whole number"),
    ],
)
def test_overrides_set_existing_keys_only(path, override, said):
    text = refusal(path, override)

    assert said in text
    assert len(text.splitlines()) == 2


def test_a_secret_on_the_command_line_is_not_repeated(path):
    assert "s3cret" not in refusal(path, "tracking_args.wandb_key=s3cret")


def test_overrides_win_in_order_and_null_unsets(path):
    recipe = load_recipe(
        path,
        [
            "train_args.comm_round=7",
            "train_args.comm_round=8",
            "fedclip_args.run_dir=x",
            "fedclip_args.run_dir=null",
        ],
    )

    assert recipe.train_args.comm_round == 8
    assert recipe.fedclip_args.run_dir is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "holds a list"),
        ("just text", "holds a str"),
        ("a: b: c\n", "line 1, column 5: malformed YAML"),
        ("a:\n\tb: 1\n", "line 2"),
        ("a: [1, 2\nb: 3\n", "malformed YAML"),
        ("a: 'open\n", "malformed YAML"),
        ("a: 1\n---\nb: 2\n", "malformed YAML"),
        ("a: *nobody\n", "malformed YAML"),
        ("a: \x00", "malformed YAML"),
    ],
)
def test_malformed_yaml_is_one_line_with_its_place(path, text, said):
    path.write_text(text)

    told = refusal(path)

    assert said in told
    assert told.startswith(f"RECIPE: 1 error in {path}\n")
    assert len(told.splitlines()) == 2


def test_keys_given_twice_are_told_with_their_lines_beside_other_faults(path):
    path.write_text(
        TEXT.replace("  comm_round: 5\n", "  comm_round: 5\n  comm_round: 6\n  epoch: 1\n") + "data_args: {}\n"
    )

    told = refusal(path)

    assert "line 9: 'comm_round' is already given in line 8; keep one" in told
    assert "'data_args' is already given in line 3" in told
    assert "train_args.epoch = 1: unknown key" in told


def test_files_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")

    assert "No such file" in refusal(tmp_path / "none.yaml")
    assert "Is a directory" in refusal(tmp_path)
    assert "UTF-8" in refusal(tmp_path / "binary.yaml")


def test_wandb_online_needs_leave(path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "WANDB_MODE=offline" in refusal(path, "tracking_args.enable_wandb=true")
    assert load_recipe(path, ["tracking_args.enable_wandb=true", "fedclip_args.offline=false"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert load_recipe(path, ["tracking_args.enable_wandb=true"]).tracking_args.enable_wandb


def test_anchors_and_merges_work(path):
    raw = yaml.safe_load(TEXT)
    path.write_text(TEXT.replace("  comm_round: 5\n", "  <<: {comm_round: 6}\n"))

    assert load_recipe(path).train_args.comm_round == raw["train_args"]["comm_round"] + 1


def test_loading_does_not_change_what_it_was_given(path):
    raw = yaml.safe_load(TEXT)
    before = copy.deepcopy(raw)
    Recipe.checked(raw, path)

    assert raw == before


def test_recipes_are_checked_without_torch_and_at_once():
    code = "import sys, fedclip_plugin.recipe; "
    code += "print([m for m in ('torch', 'fedml', 'transformers', 'numpy') if m in sys.modules])"
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"
    assert time.perf_counter() - start < 5
