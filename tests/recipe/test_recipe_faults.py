"""Every way in which a recipe can be wrong is refused with its own words, and all of them at once."""

import copy

import pytest
import yaml

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.recipe.check import check
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, REFUSED_SECTIONS, REFUSED_VALUES, SECRETS
from fedclip_plugin.recipe.schema.sections import SECTIONS, homes
from tests.support.recipe_sections import changed as changed_sections

GOOD = {
    "common_args": {"training_type": "cross_silo"},
    "data_args": {"dataset": "pacs"},
    "train_args": {
        "federated_optimizer": "FedAvg",
        "client_num_in_total": 3,
        "client_num_per_round": 3,
        "comm_round": 5,
    },
    "validation_args": {"frequency_of_the_test": 1},
    "comm_args": {"backend": "MPI"},
    "fedclip_args": {
        "data_root": "data/PACS",
        "domains": ["art_painting", "cartoon", "photo", "sketch"],
        "target_domain": "sketch",
    },
}
CLASSES = {
    "fedclip_args.data_layout": "classes",
    "fedclip_args.domains": None,
    "fedclip_args.target_domain": None,
    "data_args.partition_method": "homo",
}
SILOS = {
    "fedclip_args.data_layout": "silos",
    "fedclip_args.domains": None,
    "fedclip_args.target_domain": None,
    "fedclip_args.silos": ["a", "b", "c"],
}
LISTED = {
    "fedclip_args.data_layout": "list",
    "fedclip_args.data_root": None,
    "fedclip_args.domains": None,
    "fedclip_args.target_domain": None,
    "fedclip_args.data_list": "images.csv",
}
BY_COLUMN = LISTED | {"fedclip_args.silo_column": "hospital"}
PER_SILO = LISTED | {"fedclip_args.data_list": "/srv/{silo}.tsv", "fedclip_args.silos": ["a", "b", "c"]}
SHARED = LISTED | {"data_args.partition_method": "homo"}
FEDML_DP = {"dp_args.enable_dp": True, "dp_args.dp_solution_type": "cdp", "dp_args.epsilon": 0.9}
PRIVATE = {"fedclip_args.dp_target_epsilon": 8}
RIDGE = {"fedclip_args.method": "ridge", "train_args.comm_round": 1}
KRUM = {"defense_args.enable_defense": True, "defense_args.defense_type": "krum"}
KRUM |= {"defense_args.byzantine_client_num": 1}
FIVE = {
    "train_args.client_num_in_total": 5,
    "train_args.client_num_per_round": 5,
    "fedclip_args.domains": None,
    "fedclip_args.target_domain": None,
}
BYZANTINE = {"attack_args.enable_attack": True, "attack_args.attack_type": "byzantine"}
BYZANTINE |= {"attack_args.attack_mode": "flip", "attack_args.byzantine_client_num": 1}


def changed(changes):
    """The good recipe with `section.key` set, or taken out where the value is None."""
    return changed_sections(GOOD, changes)


def lines(raw):
    return [fault.line() for fault in check(raw)[1]]


VALID = {
    "domains": {},
    "all domains": {"fedclip_args.domains": None},
    "no target": {"fedclip_args.target_domain": None, "fedclip_args.domains": ["a", "b", "c"]},
    "iid": CLASSES,
    "named classes silos": CLASSES | {"fedclip_args.silos": ["a", "b", "c"]},
    "dirichlet": CLASSES | {"data_args.partition_method": "hetero", "data_args.partition_alpha": 0.5},
    "silos": SILOS,
    "silo pattern": SILOS | {"fedclip_args.data_root": "/srv/{silo}/images"},
    "silos with target": SILOS | {"fedclip_args.target_domain": "d"},
    "silo files": SILOS | {"fedclip_args.data_root": None, "data_args.data_silo_config": ["1", "2", "3"]},
    "splits": CLASSES | {"fedclip_args.data_layout": "splits"},
    "a list with silos and a target": BY_COLUMN | {"fedclip_args.target_domain": "sketch"},
    "a list with chosen silos": BY_COLUMN | {"fedclip_args.silos": ["a", "b", "c"], "fedclip_args.data_root": "/srv"},
    "a list per silo": PER_SILO | {"fedclip_args.target_domain": "d"},
    "a list shared out": SHARED | {"fedclip_args.group_column": "patient", "fedclip_args.split_column": "fold"},
    "labels that are no folders": SHARED | {"fedclip_args.classes": ["a/b", "..", "c d"]},
    "a plain list": SHARED | {"fedclip_args.data_list": "images.LST"},
    "lists in silo files": PER_SILO | {"fedclip_args.data_list": None, "data_args.data_silo_config": ["1", "2", "3"]},
    "miniature": {"data_args.dataset": "miniature", "fedclip_args.data_root": None},
    "private": PRIVATE | {"fedclip_args.dp_delta": "1e-6", "fedclip_args.dp_clip": 0.5},
    "private by noise": {"fedclip_args.dp_noise_multiplier": 1.5, "fedclip_args.augmented_views": 2},
    "private sums": PRIVATE | {"fedclip_args.method": "ridge", "train_args.comm_round": 1},
    "another loss": {"fedclip_args.loss": "class_cross_entropy", "fedclip_args.method": "lora"},
    "krum": FIVE | KRUM,
    "multikrum": FIVE
    | {"train_args.client_num_in_total": 6, "train_args.client_num_per_round": 6}
    | KRUM
    | {"defense_args.defense_type": "multikrum", "defense_args.krum_param_m": 2},
    "norm clipping": {
        "defense_args.enable_defense": True,
        "defense_args.defense_type": "norm_diff_clipping",
        "defense_args.norm_bound": 0.05,
    },
    "attack and krum": FIVE | KRUM | BYZANTINE,
    "replacement": {"attack_args.enable_attack": True, "attack_args.attack_type": "model_replacement"},
    "gpu mapping": {"device_args.gpu_mapping_file": "gpu.yaml", "device_args.gpu_mapping_key": "k"},
    "fedml's empty id list": {"train_args.client_id_list": []},
    "exponent without a dot": {"train_args.learning_rate": "5e-5"},
    "sample range": {"fedclip_args.sample_range": [-1000, "4e2"]},
    "distillation for a gate": {"fedclip_args.zero_shot_distillation": 0.3},
    "wise": {"fedclip_args.method": "linear_probe", "fedclip_args.wise": True},
    "shares of wise": {"fedclip_args.method": "lora", "fedclip_args.wise": [1, "5e-1"]},
    "no wise": {"fedclip_args.wise": False},
    "text pull": {"fedclip_args.method": "linear_probe", "fedclip_args.text_pull": 8},
}


@pytest.mark.parametrize("changes", VALID.values(), ids=VALID)
def test_what_works_is_accepted(changes):
    assert lines(changed(changes)) == []


INVALID = [
    # unknown and misplaced keys
    ({"train_args.comm_rounds": 3}, "train_args.comm_rounds = 3: unknown key", "did you mean 'comm_round'?"),
    ({"train_args.qqq": 3}, "train_args.qqq = 3: unknown key", "comm_round"),
    ({"common_args.learning_rat": 3}, "common_args.learning_rat", "did you mean 'train_args.learning_rate'?"),
    ({"common_args.batch_size": 8}, "common_args.batch_size = 8: is in the wrong section", "train_args"),
    ({"trian_args.batch_size": 8}, "trian_args: unknown section", "did you mean 'train_args'?"),
    ({"security_args.batch_size": 8}, "security_args: unknown section; sections are common_args", ""),
    ({"environment_args.bootstrap": "b.sh"}, "environment_args: ", "cloud"),
    ({"data_args.1": 8}, "data_args.1", "unknown key"),
    # regularisers where they do not fit
    (
        {"fedclip_args.method": "lora", "fedclip_args.zero_shot_distillation": 1.0},
        "zero_shot_distillation = 1.0: needs features",
        "method lora is on pixels and keeps none; leave it out",
    ),
    (
        {"fedclip_args.method": "zero_shot", "fedclip_args.zero_shot_distillation": 1.0},
        "zero_shot_distillation = 1.0: method zero_shot trains nothing",
        "leave it out",
    ),
    (
        {"fedclip_args.text_pull": 8},
        "text_pull = 8.0: not for method fedclip, which trains no class features",
        "leave it out, or take linear_probe or prompt or text_lora or prompt_generator",
    ),
    ({"fedclip_args.method": "full", "fedclip_args.text_pull": 8}, "text_pull = 8.0: not for method full", ""),
    ({"fedclip_args.text_pull": -1}, "fedclip_args.text_pull = -1", "0"),
    (
        {"fedclip_args.wise": True},
        "wise = [0.25, 0.5, 0.75, 1.0]: not for method fedclip, which does not start as zero-shot CLIP",
        "or take sigmoid_gate or linear_probe or prompt",
    ),
    ({"fedclip_args.method": "lora", "fedclip_args.wise": [0]}, "fedclip_args.wise = [0]", "true, false, or a list"),
    ({"fedclip_args.method": "lora", "fedclip_args.wise": []}, "fedclip_args.wise = []", "true, false, or a list"),
    ({"fedclip_args.method": "lora", "fedclip_args.wise": 0.5}, "fedclip_args.wise = 0.5", "true, false, or a list"),
    (
        {"fedclip_args.method": "lora", "fedclip_args.wise": True, "train_args.comm_round": 1},
        "train_args.comm_round = 1: must be 2 or more with wise",
        "whose last round trains nothing",
    ),
    (
        {"fedclip_args.method": "lora", "fedclip_args.wise": True, "fedclip_args.federation": "local"},
        "fedclip_args.wise",
        "federation: local averages nothing; leave it out",
    ),
    (
        {"fedclip_args.method": "prompt", "fedclip_args.wise": True, "fedclip_args.prompt_template": "{}"},
        "fedclip_args.wise = [0.25, 0.5, 0.75, 1.0]: not for method prompt where the template has no words before {}",
        "add some",
    ),
    # missing
    ({"train_args.comm_round": None}, "train_args.comm_round: is required", ""),
    ({"comm_args.backend": None}, "comm_args.backend: is required", ""),
    ({"data_args.dataset": None}, "data_args.dataset: is required", ""),
    ({"fedclip_args.data_root": None}, "fedclip_args.data_root: is required", "miniature"),
    # types and ranges
    ({"train_args.comm_round": 0}, "train_args.comm_round = 0: must be at least 1", ""),
    ({"train_args.comm_round": "ten"}, 'train_args.comm_round = "ten": must be a whole number', ""),
    ({"train_args.comm_round": 2.5}, "comm_round = 2.5: must be a whole number", ""),
    ({"train_args.comm_round": True}, "comm_round = true: must be a whole number", ""),
    ({"train_args.batch_size": 1}, "batch_size = 1: must be at least 2", ""),
    ({"train_args.learning_rate": 0}, "learning_rate = 0: must be greater than 0", ""),
    ({"train_args.learning_rate": "fast"}, "must be a number", ""),
    ({"train_args.learning_rate": True}, "must be a number", ""),
    ({"train_args.learning_rate": float("nan")}, "learning_rate = NaN: must be a finite number", ""),
    ({"train_args.learning_rate": "1e999"}, "learning_rate", "finite"),
    ({"train_args.weight_decay": -1}, "must be at least 0", ""),
    ({"common_args.random_seed": -1}, "random_seed = -1: must be at least 0", ""),
    ({"common_args.random_seed": 2**32}, "must be at most 4294967295", ""),
    ({"device_args.using_gpu": "yes"}, 'using_gpu = "yes": must be true or false', ""),
    ({"data_args.dataset": 7}, "dataset = 7: must be text; put it in quotes", ""),
    ({"data_args.dataset": ""}, "must not be empty", ""),
    (
        {"fedclip_args.sample_range": [4095, 0]},
        "sample_range = [4095, 0]: must be two finite numbers [black, white]",
        "",
    ),
    ({"fedclip_args.sample_range": 4095}, "must be two finite numbers [black, white], the first below the second", ""),
    ({"fedclip_args.sample_range": ["0", "1"]}, "must be two finite numbers", "such as [0, 4095]"),
    ({"fedclip_args.domains": "a, b"}, "must be a list", ""),
    ({"fedclip_args.domains": []}, "must not be an empty list", ""),
    ({"fedclip_args.classes": ["yes", True]}, "fedclip_args.classes[1] = true: must be text", "quotes"),
    ({"fedclip_args.classes": ["a", "b", "a"]}, "names 'a' more than once", ""),
    ({"fedclip_args.classes": ["a/b"]}, "fedclip_args.classes[0]", "without '/'"),
    ({"fedclip_args.target_domain": ".."}, "must be the name of one folder", ""),
    ({"fedclip_args.data_root": 3}, "must be a path", ""),
    ({"fedclip_args.data_root": ""}, "must not be empty", ""),
    ({"fedclip_args.data_root": "$NO_SUCH_VARIABLE/x"}, "$NO_SUCH_VARIABLE is not set", "export it"),
    ({"fedclip_args.data_root": "${NO_SUCH_VARIABLE/x"}, "${NO_SUCH_VARIABLE/x is not set", "export it"),
    ({"fedclip_args.run_dir": "~no-such-user/x"}, "there is no user ~no-such-user", "write the path out"),
    ({"fedclip_args.prompt_template": "a picture"}, "exactly one '{}'", ""),
    ({"fedclip_args.prompt_template": "{} and {}"}, "exactly one '{}'", ""),
    ({"fedclip_args.prompt_template": "a {x} of {}"}, "exactly one '{}'", ""),
    ({"fedclip_args.backbone": "clip_tiny"}, "owner/name", "did you mean 'clip-tiny'?"),
    (
        {"fedclip_args.method": "fedclipp"},
        "must be 'zero_shot' or 'fedclip'",
        "did you mean 'fedclip'?",
    ),
    ({"fedclip_args.precision": "FP32"}, "'bf16'", "did you mean 'fp32'?"),
    ({"fedclip_args.on_bad_image": "ignore"}, "'error' or 'skip'", ""),
    ({"fedclip_args.weighting": "sample"}, "", "did you mean 'samples'?"),
    ({"model_args.model": "lr"}, "must be 'fedclip_adapter'", ""),
    ({"fedclip_args.round_timeout": 0}, "must be greater than 0", ""),
    ({"comm_args.backend": "mpi"}, "must be 'MPI'", "did you mean 'MPI'?"),
    ({"train_args.comm_round": 10**12}, "must be at most 4294967295", ""),
    # silos and ranks
    ({"train_args.client_num_in_total": 100_001}, "must be at most 100000", ""),
    (
        {"train_args.client_num_in_total": 4},
        "must equal the number of silos, 3",
        "art_painting, cartoon, photo",
    ),
    (
        SILOS | {"fedclip_args.silos": ["a", "b"]},
        "must equal the number of silos, 2 (a, b)",
        "fedclip_args.silos",
    ),
    (CLASSES | {"fedclip_args.silos": ["a"]}, "must equal the number of silos, 1", ""),
    (
        {"train_args.client_num_per_round": 4},
        "client_num_per_round = 4: must be at most client_num_in_total, 3",
        "",
    ),
    ({"fedclip_args.min_silos": 4}, "min_silos = 4: must be at most client_num_per_round, 3", ""),
    ({"data_args.data_silo_config": ["a.yaml"]}, "one file per silo, 3; it lists 1", ""),
    # layouts
    (
        {"fedclip_args.target_domain": "skech"},
        "must be one of fedclip_args.domains",
        "did you mean 'sketch'?",
    ),
    (SILOS | {"fedclip_args.target_domain": "a"}, "must not be one of fedclip_args.silos", ""),
    (CLASSES | {"fedclip_args.target_domain": "a"}, "shares all images out and holds none out", ""),
    (CLASSES | {"fedclip_args.domains": ["a"]}, "only for data_layout: domains", ""),
    (
        CLASSES | {"data_args.partition_method": None},
        "partition_method: is required by data_layout: classes",
        "",
    ),
    (CLASSES | {"data_args.partition_method": "hetero"}, "partition_alpha: is required by", ""),
    (CLASSES | {"data_args.partition_alpha": 0.5}, "only for partition_method: hetero", ""),
    (CLASSES | {"fedclip_args.data_root": "/srv/{silo}"}, "take {silo} out", ""),
    (SILOS | {"fedclip_args.silos": None}, "fedclip_args.silos: is required by data_layout: silos", ""),
    (
        SILOS
        | {"fedclip_args.data_root": None, "fedclip_args.target_domain": "d"}
        | {"data_args.data_silo_config": ["1", "2", "3"]},
        "fedclip_args.data_root: is required",
        "",
    ),
    ({"fedclip_args.silos": ["a", "b", "c"]}, "only for data_layout: silos or classes", ""),
    ({"data_args.partition_method": "homo"}, "only for data_layout: classes", ""),
    ({"data_args.partition_method": "iid"}, "must be 'homo', 'hetero', 'classes', 'shards' or 'quantity'", ""),
    ({"fedclip_args.classes": ["dog", "a/b"]}, 'fedclip_args.classes[1] = "a/b": must be the name of one folder', ""),
    # lists
    (LISTED | {"fedclip_args.data_list": None}, "fedclip_args.data_list: is required by data_layout: list", ""),
    (SHARED | {"fedclip_args.data_list": "images.xlsx"}, "must end in .csv, .tsv, .txt, .lst", ""),
    (LISTED, "data_args.partition_method: is required by a list that is shared out", "set fedclip_args.silo_column"),
    (BY_COLUMN | {"data_args.partition_method": "homo"}, "only for a list that is shared out; leave it out", ""),
    (PER_SILO | {"fedclip_args.silo_column": "x"}, "data_list has {silo}, a list per silo", "leave one of the two"),
    (PER_SILO | {"fedclip_args.silos": None}, "fedclip_args.silos: is required by {silo} in data_list", ""),
    (
        LISTED | {"data_args.data_silo_config": ["1", "2", "3"]},
        "fedclip_args.silos: is required by data_silo_config",
        "in the order of their ranks",
    ),
    (SHARED | {"fedclip_args.target_domain": "a"}, "shares all images out and holds none out", ""),
    (SHARED | {"fedclip_args.data_root": "/srv/{silo}"}, "take {silo} out", ""),
    (
        BY_COLUMN | {"fedclip_args.silos": ["a", "b", "c"], "fedclip_args.target_domain": "a"},
        "must not be one of fedclip_args.silos",
        "",
    ),
    (BY_COLUMN | {"fedclip_args.silos": ["a", "b"]}, "must equal the number of silos, 2 (a, b)", "fedclip_args.silos"),
    (SHARED | {"fedclip_args.data_list": "x.txt", "fedclip_args.group_column": "p"}, "no header; leave it out", ""),
    ({"fedclip_args.label_column": "y"}, 'label_column = "y": only for data_layout: list', ""),
    ({"fedclip_args.data_list": "x.csv"}, "only for data_layout: list; leave it out, or change the layout", ""),
    (CLASSES | {"fedclip_args.data_layout": "split"}, "must be 'domains', 'classes', 'splits', 'silos' or 'list'", ""),
    # the miniature
    ({"data_args.dataset": "miniature"}, "dataset: miniature draws its own images", "another name"),
    (
        CLASSES | {"data_args.dataset": "miniature", "fedclip_args.data_root": None},
        "dataset: miniature comes as domains",
        "",
    ),
    ({"fedclip_args.calibrate": False, "fedclip_args.false_reject_rate": 0.1}, "only with calibrate: true", ""),
    ({"fedclip_args.false_reject_rate": 1}, "must be less than 1.0", ""),
    ({"fedclip_args.images_per_class": 20}, "only for dataset: miniature", ""),
    ({"fedclip_args.difficulty": 2}, "only for dataset: miniature", ""),
    # GPUs
    ({"device_args.gpu_mapping_file": "g.yaml"}, "gpu_mapping_key: is required beside", ""),
    ({"device_args.gpu_mapping_key": "k"}, "gpu_mapping_file: is required beside", ""),
    # noise, defences, attacks
    (FEDML_DP, "dp_args: FedML's noise, local or central, guarantees nothing", "fedclip_args.dp_target_epsilon"),
    ({"fedclip_args.max_grad_norm": 1.0}, "fedclip_args.max_grad_norm = 1.0: FedML clips the weights", "bound"),
    ({"fedclip_args.dp_delta": 1e-6}, "fedclip_args.dp_delta = 1e-06: only beside dp_target_epsilon or", ""),
    ({"fedclip_args.dp_clip": 1}, "fedclip_args.dp_clip = 1.0: only beside dp_target_epsilon or dp_noise", ""),
    ({"fedclip_args.dp_target_epsilon": 0}, "must be greater than 0", ""),
    ({"fedclip_args.dp_target_epsilon": 51}, "must be at most 50.0", ""),
    ({"fedclip_args.dp_noise_multiplier": 0.2}, "must be at least 0.3", ""),
    (PRIVATE | {"fedclip_args.dp_delta": 0}, "must be at least 1e-12", ""),
    (PRIVATE | {"fedclip_args.wise": True, "fedclip_args.method": "sigmoid_gate"}, "fedclip_args.wise = ", "may end"),
    (PRIVATE | {"fedclip_args.personal_epochs": 1}, "personal_epochs = 1: not with differential privacy", "are sent"),
    (PRIVATE | {"fedclip_args.method": "lora"}, 'method = "lora": not with differential privacy', "through the image"),
    (PRIVATE | {"fedclip_args.method": "prompt"}, 'method = "prompt": not with differential', "through the text tower"),
    (PRIVATE | {"fedclip_args.method": "zero_shot"}, "it trains nothing; take one of fedclip, sigmoid_gate", "ridge"),
    (
        PRIVATE | {"fedclip_args.method": "linear_probe", "fedclip_args.start": "ridge"},
        'start = "ridge": not with differential privacy',
        "no one guarantee",
    ),
    (PRIVATE | RIDGE | {"fedclip_args.personal_statistics": True}, "personal_statistics = true: not with diff", ""),
    (PRIVATE | RIDGE | {"fedclip_args.min_class_count": 5}, "min_class_count = 5: not with differential", "counts"),
    (PRIVATE | RIDGE | {"fedclip_args.augmented_views": 2}, "augmented_views = 2: not with method ridge and diff", ""),
    (
        PRIVATE | RIDGE | {"fedclip_args.dp_clip": 2},
        "dp_clip = 2.0: not with method ridge and differential",
        "length 1",
    ),
    (RIDGE | {"fedclip_args.loss": "class_cross_entropy"}, "method ridge trains nothing; leave it out", ""),
    (KRUM, "needs 5 updates a round (2 b + 2 + m) but client_num_per_round is 3", ""),
    (FIVE | KRUM | {"fedclip_args.min_silos": 4}, "needs 5 updates a round", "min_silos is 4; lower it or raise min_s"),
    (FIVE | KRUM | PRIVATE, "needs 5 updates a round", "but min_silos, with dp_target_epsilon, is 1"),
    (FIVE | KRUM | {"defense_args.byzantine_client_num": None}, "is required by defense_type: krum", ""),
    (FIVE | KRUM | {"defense_args.krum_param_m": 2}, "krum_param_m = 2: not used by defense_type: krum", ""),
    (
        FIVE | KRUM | {"defense_args.defense_type": "multikrum", "defense_args.krum_param_m": 2},
        "needs 6 updates a round",
        "",
    ),
    (
        {"defense_args.enable_defense": True, "defense_args.defense_type": "norm_diff_clipping"},
        "norm_bound: is required by defense_type: norm_diff_clipping",
        "",
    ),
    (BYZANTINE | {"attack_args.byzantine_client_num": 4}, "must be at most client_num_per_round, 3", ""),
    (BYZANTINE | {"attack_args.attack_mode": None}, "attack_mode: is required by attack_type: byzantine", ""),
    (BYZANTINE | {"attack_args.malicious_client_id": 0}, "not used by attack_type: byzantine", ""),
    (
        FIVE | KRUM | BYZANTINE | {"attack_args.byzantine_client_num": 2},
        "must equal defense_args.byzantine_client_num, 1",
        "",
    ),
    (
        {"attack_args.enable_attack": True, "attack_args.attack_type": "model_replacement"}
        | {"attack_args.malicious_client_id": 3},
        "must be less than client_num_per_round, 3",
        "",
    ),
    # one value only
    ({"common_args.using_mlops": True}, "using_mlops = true", "crashes"),
    ({"train_args.client_id_list": "[1, 2, 3]"}, "client_id_list", "hangs"),
]


@pytest.mark.parametrize(
    ("changes", "start", "more"), INVALID, ids=[f"{i}-{row[1][:40]}" for i, row in enumerate(INVALID)]
)
def test_one_fault_is_one_line_that_says_rule_and_fix(changes, start, more):
    told = lines(changed(changes))

    assert any(start in line and more in line for line in told), told
    assert len(told) == 1


@pytest.mark.parametrize("key", sorted(set(REFUSED_KEYS) - set(SECRETS)))
def test_fedml_keys_that_go_wrong_are_refused_in_every_section(key):
    for section in SECTIONS:
        (line,) = [text for text in lines(changed({f"{section}.{key}": 1})) if f"{section}.{key} = 1" in text]
        assert line == f"{section}.{key} = 1: {REFUSED_KEYS[key]}"


@pytest.mark.parametrize("key", SECRETS)
def test_secrets_are_not_repeated(key):
    assert lines(changed({f"tracking_args.{key}": "s3cret"})) == [f"tracking_args.{key}: {REFUSED_KEYS[key]}"]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in REFUSED_VALUES for value in REFUSED_VALUES[key]])
def test_fedml_values_that_go_wrong_are_refused_with_the_reason(key, value):
    where = f"{homes(key)[0]}.{key}"

    for spelling in (value, value.upper()):
        told = lines(changed({where: spelling}))
        assert f'{where} = "{spelling}": {REFUSED_VALUES[key][value]}' in told


def test_every_refusal_says_what_to_do():
    reasons = [*REFUSED_KEYS.values(), *REFUSED_SECTIONS.values()]
    reasons += [reason for values in REFUSED_VALUES.values() for reason in values.values()]

    assert [reason for reason in reasons if not any(w in reason for w in ("use ", "leave it out", "belongs to"))] == []
    assert [key for key in REFUSED_KEYS if homes(key)] == []
    assert [key for key in REFUSED_VALUES if not homes(key)] == []


@pytest.mark.parametrize("content", [None, 3, "text", ["a"]])
def test_a_section_without_keys_is_refused(content):
    (line,) = [text for text in lines(GOOD | {"model_args": content}) if text.startswith("model_args")]

    assert "keys" in line


def test_a_key_at_the_top_is_sent_to_its_section():
    assert lines(GOOD | {"batch_size": 8}) == ["batch_size = 8: is a key, not a section; it belongs to train_args"]


def test_all_faults_come_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    bad = changed(
        {
            "train_args.comm_rounds": 3,
            "train_args.learning_rate": "fast",
            "comm_args.backend": "GRPC",
            "train_args.client_num_per_round": 4,
            "fedclip_args.target_domain": "skech",
        }
    )
    path.write_text(yaml.safe_dump(bad))

    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["train_args.client_num_in_total=2", "comm_round=3"])

    first, *rest = str(caught.value).splitlines()
    assert first == f"RECIPE: 6 errors in {path}"
    assert len(rest) == 6
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("junk", [None, 1, -1, 0, 1.5, "x", "", True, [], [1], {}, {"a": 1}, [[]], "{", "$X", "~"])
def test_no_value_of_any_key_escapes_as_another_exception(junk):
    for section, model in SECTIONS.items():
        for key in model.model_fields:
            raw = copy.deepcopy(GOOD)
            raw.setdefault(section, {})[key] = junk
            assert all(isinstance(line, str) for line in lines(raw))
