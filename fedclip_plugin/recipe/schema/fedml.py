"""FedML's own sections and key names, with the values that FedML 0.9.6 gets right.

Keys without a default are those without which FedML itself fails, mostly obscurely; a recipe spells them
out so that it also works with FedML's own loader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedclip_plugin.recipe.schema.types import (
    ClientIds,
    Count,
    Flag,
    NonNegative,
    Positive,
    Section,
    Text,
    UserPath,
    Whole,
)


class CommonArgs(Section):
    """``common_args``: which of FedML's platforms, and the seed.

    Attributes
    ----------
    training_type, scenario
        One server and silos that hold whole data sets: FedML's horizontal ``cross_silo``.
    using_mlops
        FedML's cloud; always off, nothing leaves the machines of the job.
    random_seed
        Every random generator of the run derives from it.
    """

    training_type: Literal["cross_silo"]
    scenario: Literal["horizontal"] = "horizontal"
    using_mlops: Literal[False] = False
    random_seed: Annotated[Whole, Field(ge=0)] = 0


class DataArgs(Section):
    """``data_args``: the data set and, for `data_layout: classes`, how it is split among silos.

    Attributes
    ----------
    dataset
        A name for tables and the run; only ``miniature`` has a meaning: the built-in data set.
    data_cache_dir
        Where the miniature is rendered.
    partition_method
        ``homo``: IID; ``hetero``: Dirichlet by class. Only with `data_layout: classes`.
    partition_alpha
        Dirichlet concentration of ``hetero``; smaller is more uneven.
    data_silo_config
        One small YAML file per silo that sets ``fedclip_args.data_root`` for that silo's machine.
    """

    dataset: Text
    data_cache_dir: UserPath = Path(".fedclip/data")
    partition_method: Literal["homo", "hetero"] | None = None
    partition_alpha: Positive | None = None
    data_silo_config: Annotated[tuple[UserPath, ...], Field(min_length=1)] | None = None


class ModelArgs(Section):
    """``model_args``: FedML's name for the model; FedML only logs it.

    Attributes
    ----------
    model
        Always ``fedclip_adapter``; what is trained is chosen by ``fedclip_args``.
    """

    model: Literal["fedclip_adapter"] = "fedclip_adapter"


class TrainArgs(Section):
    """``train_args``: the federation and the local training.

    Attributes
    ----------
    federated_optimizer
        The only one FedML 0.9.6 runs safely across silos. By what weights it averages, ``fedclip_args.weighting`` says:
        by default each silo counts alike, as in the paper's reference code.
    client_id_list
        Left to FedML; any list given to all ranks makes the job hang.
    client_num_in_total
        Silos, 10,000 at most. The job has one rank more, the server.
    client_num_per_round
        Silos sampled each round.
    comm_round
        Rounds.
    epochs
        Local epochs per round.
    batch_size
        Images per step. A last batch of one image is skipped, as in the reference.
    client_optimizer
        Adam with coupled weight decay, made afresh each round (the reference's).
    learning_rate, weight_decay
        Of that optimiser.
    """

    federated_optimizer: Literal["FedAvg"]
    client_id_list: ClientIds = "[]"
    client_num_in_total: Annotated[Count, Field(le=10_000)]
    client_num_per_round: Count
    comm_round: Count
    epochs: Count = 1
    batch_size: Annotated[Whole, Field(ge=2)] = 32
    client_optimizer: Literal["adam"] = "adam"
    learning_rate: Positive = 3e-4
    weight_decay: NonNegative = 0.0


class ValidationArgs(Section):
    """``validation_args``: how often the target domain is tested.

    Attributes
    ----------
    frequency_of_the_test
        Rounds from one test to the next.
    """

    frequency_of_the_test: Count


class DeviceArgs(Section):
    """``device_args``: GPUs, as FedML maps ranks to them.

    Attributes
    ----------
    using_gpu
        Use CUDA where there is one.
    gpu_mapping_file, gpu_mapping_key
        FedML's table of ranks per GPU; both or neither.
    """

    using_gpu: Flag = True
    gpu_mapping_file: UserPath | None = None
    gpu_mapping_key: Text | None = None


class CommArgs(Section):
    """``comm_args``: how ranks talk.

    Attributes
    ----------
    backend
        ``MPI``, inside one `mpirun` job.
    """

    backend: Literal["MPI"]


class TrackingArgs(Section):
    """``tracking_args``: Weights & Biases and TensorBoard, off by default.

    Attributes
    ----------
    enable_wandb
        With `offline: true` this needs ``WANDB_MODE=offline`` in the environment.
    wandb_project, run_name
        As wandb knows them.
    wandb_only_server
        One wandb run, the server's, instead of one per rank.
    enable_tensorboard
        Write each round to ``<run>/tensorboard``; needs the extra ``tensorboard``.
    """

    enable_wandb: Flag = False
    wandb_project: Text | None = None
    run_name: Text | None = None
    wandb_only_server: Flag = True
    enable_tensorboard: Flag = False
