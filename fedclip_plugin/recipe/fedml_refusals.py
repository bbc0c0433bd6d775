"""What FedML 0.9.6 accepts and gets wrong or unsafe, each with the reason and what to do instead.

Found by experiment on 0.9.6 over MPI and by reading its source; a refusal may go when FedML mends the fault.
"""

from __future__ import annotations

_CLOUD = "belongs to FedML's cloud, which this plugin never contacts; leave it out"
_OTHER_BACKEND = "belongs to a backend that is refused; leave it out, ranks talk over MPI"
_HIERARCHY = "belongs to FedML's hierarchical scenario, where one silo is many processes; leave it out"
_OUR_DP = "give fedclip_args.dp_target_epsilon, e.g. 8.0, for differential privacy of each training image"
_NOISE = (
    "FedML's noise, local or central, guarantees nothing, as it is added to weights that are not clipped; leave it out "
    f"and {_OUR_DP}"
)
_ACCOUNTANT = f"FedML's RDP accountant fails with a TypeError; leave it out and {_OUR_DP}"
_LSA = "FedML's LSA draws the same masks on every silo from the public seed, so nothing is secret; leave it out"
_CONTRIBUTION = "FedML's contribution assessment fails with KeyError 0 in the first rounds; leave it out"
_LABEL_FLIPPING = "FedML's label flipping never reaches the trainer's data; leave it out and flip the files"
_DP_CLIP = f"FedML's dp_clip and nbafl have no effect on the result; leave it out and {_OUR_DP}"
_NO_CLIP = (
    "FedML clips the weights instead of the update and destroys learning; leave it out, or bound updates "
    "with fedclip_args.robust_aggregation: norm_bound"
)

REFUSED_KEYS: dict[str, str] = {
    "config_version": "FedML never reads it; leave it out",
    "log_file_dir": "FedML's log goes to the run folder; leave it out",
    "test_on_clients": "silos test every global adapter already; leave it out",
    "is_mobile": "FedML over MPI never reads it; leave it out",
    "ci": "belongs to FedML's simulation; leave it out",
    "fedprox_mu": "FedML's FedProx does not run in cross_silo; leave it out and use fedclip_args.proximal_mu",
    "enable_fhe": (
        "FedML's FHE never switches on: training is discarded and weights travel in the clear; leave it out"
    ),
    "enable_contribution": _CONTRIBUTION,
    "contribution_alg": _CONTRIBUTION,
    "enable_secagg": "FedML 0.9.6 has no secagg module; leave it out",
    "prime_number": _LSA,
    "precision_parameter": _LSA,
    "targeted_number_active_clients": _LSA,
    "privacy_guarantee": _LSA,
    "enable_dp": _NOISE,
    "dp_solution_type": _NOISE,
    "mechanism_type": _NOISE,
    "epsilon": _NOISE,
    "delta": _NOISE,
    "sensitivity": _NOISE,
    "enable_rdp_accountant": _ACCOUNTANT,
    "rdp_alpha": _ACCOUNTANT,
    "sigma": _ACCOUNTANT,
    "clipping": _ACCOUNTANT,
    "max_grad_norm": _NO_CLIP,
    "C": _DP_CLIP,
    "clipping_norm": _DP_CLIP,
    "noise_multiplier": _DP_CLIP,
    "train_data_num_in_total": _DP_CLIP,
    "beta": "belongs to trimmed_mean, which FedML computes over whole silos by sample count; use "
    "fedclip_args.robust_aggregation: trimmed_mean",
    "batch_num": (
        "belongs to geo_median, which FedML gets wrong; use fedclip_args.robust_aggregation: geometric_median"
    ),
    "stddev": f"belongs to weak_dp, which has no effect in FedML; leave it out and {_OUR_DP}",
    "robust_threshold": (
        "belongs to robust_learning_rate, which has no effect in FedML; use fedclip_args.robust_aggregation"
    ),
    "original_class_list": _LABEL_FLIPPING,
    "target_class_list": _LABEL_FLIPPING,
    "ratio_of_poisoned_client": _LABEL_FLIPPING,
    "attack_training_rounds": (
        "FedML looks for poisoned_training_round instead and fails with an AttributeError; leave it out, "
        "the attack runs in every round"
    ),
    "poisoned_training_round": "FedML never uses it; leave it out, the attack runs in every round",
    "enable_tracking": _CLOUD,
    "enable_sys_perf_profiling": _CLOUD,
    "sys_perf_profiling": _CLOUD,
    "mlops_api_key": _CLOUD,
    "mlops_project_name": _CLOUD,
    "mlops_run_name": _CLOUD,
    "log_server_url": _CLOUD,
    "bootstrap": _CLOUD,
    "wandb_key": "a key does not belong in a file; leave it out and use `wandb login` or WANDB_API_KEY",
    "mqtt_config_path": _OTHER_BACKEND,
    "s3_config_path": _OTHER_BACKEND,
    "grpc_ipconfig_path": _OTHER_BACKEND,
    "trpc_master_config_path": _OTHER_BACKEND,
    "enable_cuda_rpc": _OTHER_BACKEND,
    "cuda_rpc_gpu_mapping": _OTHER_BACKEND,
    "n_proc_per_node": _HIERARCHY,
    "n_proc_in_silo": _HIERARCHY,
    "n_node_in_silo": _HIERARCHY,
    "client_silo_config_paths": _HIERARCHY,
    "server_config_path": _HIERARCHY,
    "gpu_util_parse": "use gpu_mapping_file and gpu_mapping_key instead",
}
"""FedML's keys that no recipe may hold, whatever their value and section; key to reason and remedy."""

SECRETS = ("wandb_key", "mlops_api_key")
"""Of those, the ones whose value is not repeated on the screen."""

UNSAFE_IF_TRUE = (
    *("enable_fhe", "enable_secagg", "enable_contribution", "enable_dp", "enable_rdp_accountant", "max_grad_norm"),
    "attack_training_rounds",
)
"""Of those, the ones looked for in FedML's flattened arguments too, where FedML's own keys are all around."""

REFUSED_SECTIONS: dict[str, str] = {
    "environment_args": _CLOUD,
    "client_specific_args": "FedML reads data_silo_config from any section; here it belongs to data_args",
    "dp_args": _NOISE,
    "fhe_args": REFUSED_KEYS["enable_fhe"],
    "contribution_args": _CONTRIBUTION,
}
"""FedML's sections that a recipe does not have; name to reason and remedy."""

_DEVICE = "phones take ONNX bundles made from the finished adapter, see export/; use cross_silo"
_OBJECTS = "runs code that arrives in Python objects, from anyone; use MPI inside one job"
_MQTT = "sends adapters through a broker outside the job; use MPI"
_SIM_OPTIMIZER = "runs in FedML's simulators only and fails in cross_silo; use FedAvg"
_SERVER_STEP = " with fedclip_args.server_optimizer (sgd or adam) and server_lr"
_SIM_OPTIMIZERS: dict[str, str] = {
    "FedProx": " with fedclip_args.proximal_mu, e.g. 0.01",
    "FedOpt": _SERVER_STEP,
    "FedOpt_seq": _SERVER_STEP,
    "FedAvg_robust": " with fedclip_args.robust_aggregation, e.g. median",
    **dict.fromkeys(("FedNova", "FedSGD", "SCAFFOLD", "FedDyn", "Mime"), ""),
    **dict.fromkeys(("Async_FedAvg", "HierarchicalFL", "TurboAggregate", "FedGKT"), ""),
}
"""FedML's other optimisers to how a recipe asks for the same, where it can."""

_BY_OUR_KEYS = {
    **dict.fromkeys(("FedAdam", "FedAvgM"), f"has no name of its own here; use FedAvg{_SERVER_STEP}"),
    "local": "is no optimiser; use FedAvg with fedclip_args.federation: local",
}
"""What papers and other frameworks call optimisers that a recipe asks for with keys of ours."""
_UNVERIFIED_ATTACKS = (
    *("dlg", "invert_gradient", "lazy_worker", "backdoor", "edge_case_backdoor"),
    "revealing_labels_from_gradients",
)
_UNVERIFIED = "not verified with FedML 0.9.6 over MPI"
_OURS = "fedclip_args.robust_aggregation"
_ONE_TENSOR = "looks at the last tensor but one alone, and a silo may send anything in the others"
_UNREACHED = ("bulyan", "cross_round", "residual_reweight", "soteria", "wbc", "diff_clipping", "dp")

REFUSED_VALUES: dict[str, dict[str, str]] = {
    "training_type": {
        "cross_device": _DEVICE,
        "cross_cloud": "needs FedML's cloud; use cross_silo",
        "fedml_serving": "serves models instead of training them; use cross_silo",
    },
    "scenario": {"hierarchical": "one process holds one silo here; use horizontal"},
    "backend": {
        "GRPC": f"FedML's GRPC {_OBJECTS}",
        "TRPC": f"FedML's TRPC {_OBJECTS}",
        "MQTT": f"FedML's MQTT {_MQTT}",
        "MQTT_S3": f"FedML's MQTT_S3 {_MQTT}",
        "MQTT_S3_MNN": f"FedML's MQTT_S3_MNN {_MQTT}",
        "MQTT_WEB3": f"FedML's MQTT_WEB3 {_MQTT}",
        "MQTT_THETASTORE": f"FedML's MQTT_THETASTORE {_MQTT}",
        "NCCL": "FedML's NCCL backend trains by a trainer of its own; use MPI, or sp in a simulation",
    },
    "federated_optimizer": {
        "LSA": "FedML's LSA draws the same masks on every silo from the public seed, so nothing is secret; use FedAvg",
        "SA": "FedML 0.9.6 lacks the module fedml.cross_silo.secagg; use FedAvg",
        **{name: f"{name} {_SIM_OPTIMIZER}{ours}" for name, ours in _SIM_OPTIMIZERS.items()},
        **{name: f"{name} {ours}" for name, ours in _BY_OUR_KEYS.items()},
    },
    "client_optimizer": {
        "sgd": "FedCLIP trains with Adam, as its paper does; use adam",
        "adamw": "the reference's weight decay is coupled; use adam",
    },
    "defense_type": {
        "wise_median": (
            "FedML's wise_median takes the lower of the two middle values of an even number of silos; "
            f"use {_OURS}: median"
        ),
        **{
            name: f"FedML's {name} keeps one of all silos that weigh alike and ignores the others; "
            f"use {_OURS}: geometric_median"
            for name in ("rfa", "geo_median")
        },
        **{
            name: f"FedML's {name} drops whole silos by sample count; use {_OURS}: trimmed_mean"
            for name in ("trimmed_mean", "slsgd")
        },
        "cclip": f"FedML's cclip clips around the weights of one silo that it draws; use {_OURS}: norm_bound",
        "crfl": f"FedML's crfl clips the weights of the average instead of updates; use {_OURS}: norm_bound",
        "foolsgold": f"FedML's foolsgold looks at weights instead of updates and changes nothing; use {_OURS}",
        "weak_dp": f"FedML's weak_dp has no effect; use {_OURS}",
        "robust_learning_rate": f"FedML's robust_learning_rate has no effect; use {_OURS}",
        **{
            name: f"FedML's {name} {_ONE_TENSOR}; use {_OURS}"
            for name in ("3sigma", "3sigma_geo", "3sigma_foolsgold", "anomaly_detection")
        },
        **{name: f"FedML cannot start its {name}; use {_OURS}" for name in _UNREACHED},
    },
    "attack_type": {
        "label_flipping": "FedML's label flipping never reaches the trainer's data; use byzantine or model_replacement",
        **dict.fromkeys(_UNVERIFIED_ATTACKS, f"{_UNVERIFIED}; use byzantine or model_replacement"),
    },
}
"""Values of keys we share with FedML that are refused; key to value to reason and remedy."""

REFUSED_IF_SET: dict[str, str] = {
    "using_mlops": "FedML's cloud client needs the network and crashes without it; write false",
    "client_id_list": "a list given to every rank makes all of them silo 1 and the job hangs; leave it out",
}
"""Keys that take one value only; key to why any other is refused."""


def refusal(key: str, value: object) -> str | None:
    """Say why a value of a key that we share with FedML is refused.

    Returns
    -------
    str or None
        Reason and remedy; None where the tables know nothing.
    """
    if key in REFUSED_IF_SET:
        return REFUSED_IF_SET[key]
    by_value = {name.lower(): reason for name, reason in REFUSED_VALUES.get(key, {}).items()}
    return by_value.get(value.lower()) if isinstance(value, str) else None
