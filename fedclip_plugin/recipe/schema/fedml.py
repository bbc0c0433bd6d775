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
    training_type
        FedML's platform: ``cross_silo``, one server, and a process for each silo on its own data; or ``simulation``,
        many clients on few processes of one operator, for studies.
    scenario
        FedML's kind of job: one process per silo.
    using_mlops
        FedML's cloud: always off, nothing leaves the machines of the job.
    random_seed
        Every random generator of the run derives from it.
    """

    training_type: Literal["cross_silo", "simulation"]
    scenario: Literal["horizontal"] = "horizontal"
    using_mlops: Literal[False] = False
    random_seed: Annotated[Whole, Field(ge=0)] = 0


class DataArgs(Section):
    """``data_args``: the data set and, for images of one folder or list, how they are shared out among silos.

    Attributes
    ----------
    dataset
        A name for tables and the run. Only ``miniature`` has a meaning: the built-in data set.
    data_cache_dir
        Where the miniature is drawn.
    partition_method
        How the images of one folder, list or domain are distributed: ``homo`` evenly (IID); ``hetero`` unevenly, class
        by class (Dirichlet); ``classes`` gives each silo ``classes_per_client`` classes; ``shards`` as many shards of
        the images sorted by label; ``quantity`` unequal numbers (Dirichlet) of all classes. ``data_layout: classes``
        and ``splits`` require it, and so do a list without silos and ``silos_per_domain``.
    partition_alpha
        Concentration of the Dirichlet distribution of ``hetero`` and ``quantity``, which require it: 0.5 is uneven, 100
        nearly even.
    classes_per_client
        Classes or shards of each silo or client; only for ``partition_method: classes`` and ``shards``, which require
        it. Every class must have a silo.
    partition_seed
        Seed of this distribution alone, so that runs with several seeds have the same silos. Without it:
        ``random_seed``, and in a study 0.
    data_silo_config
        One small YAML file per silo, where machines differ: it sets ``fedclip_args.data_root``, ``data_list`` or
        both for its silo, in place of the recipe's, and nothing else.
    """

    dataset: Text
    data_cache_dir: UserPath = Path(".fedclip/data")
    partition_method: Literal["homo", "hetero", "classes", "shards", "quantity"] | None = None
    partition_alpha: Positive | None = None
    classes_per_client: Count | None = None
    partition_seed: Annotated[Whole, Field(ge=0)] | None = None
    data_silo_config: Annotated[tuple[UserPath, ...], Field(min_length=1)] | None = None


class ModelArgs(Section):
    """``model_args``: FedML's name for the model; FedML only logs it.

    Attributes
    ----------
    model
        Always ``fedclip_adapter``; what is trained is chosen by ``fedclip_args.method``.
    """

    model: Literal["fedclip_adapter"] = "fedclip_adapter"


class TrainArgs(Section):
    """``train_args``: the federation and the local training.

    Attributes
    ----------
    federated_optimizer
        How updates become the next adapter: they are averaged. ``fedclip_args.weighting`` says by what weights, and
        ``fedclip_args.server_optimizer`` what the server does with the average. ``FedAvg_seq``, FedML's name for
        simulations with several clients a worker, is the same here; a plain ``FedMLRunner`` needs it.
    client_id_list
        Left to FedML: any list given to all ranks makes the job hang.
    client_num_in_total
        Number of silos, 10,000 at most; the job has one rank more, the server. In a simulation the number of clients.
    client_num_per_round
        Number of silos, or clients, that train in a round; where it is smaller than all, they are sampled anew each
        round.
    comm_round
        Number of rounds.
    epochs
        Epochs that a silo trains in a round.
    batch_size
        Images per training step. A last batch of one image is skipped, as in the reference.
    client_optimizer
        The silos' optimizer: Adam with coupled weight decay; each round starts with a new one, as in the reference.
    learning_rate
        Learning rate of the silos' Adam.
    weight_decay
        Weight decay of the silos' Adam; the paper has 0.2.
    """

    federated_optimizer: Literal["FedAvg", "FedAvg_seq"]
    client_id_list: ClientIds = "[]"
    client_num_in_total: Annotated[Count, Field(le=100_000)]
    client_num_per_round: Count
    comm_round: Count
    epochs: Count = 1
    batch_size: Annotated[Whole, Field(ge=2)] = 32
    client_optimizer: Literal["adam"] = "adam"
    learning_rate: Positive = 3e-4
    weight_decay: NonNegative = 0.0


class ValidationArgs(Section):
    """``validation_args``: how often adapters are tested.

    Attributes
    ----------
    frequency_of_the_test
        Rounds from one test on the target domain to the next; in a simulation also from one test on all clients'
        validation and test images to the next. Rounds 1 and 1 + n, and so on, and the last one are tested. The best
        round is chosen among those.
    """

    frequency_of_the_test: Count


class DeviceArgs(Section):
    """``device_args``: GPUs, as FedML maps ranks to them.

    Attributes
    ----------
    using_gpu
        Whether to use CUDA where there is one.
    gpu_mapping_file
        FedML's YAML file with tables of ranks per GPU; it goes with ``gpu_mapping_key``.
    gpu_mapping_key
        Name of the table in ``gpu_mapping_file``.
    worker_num
        Of a simulation over MPI: how many ranks train clients; the job has one more, the server. No result depends on
        it. Without it: as many as mpirun starts; `fedclip launch` starts one per core.
    """

    using_gpu: Flag = True
    gpu_mapping_file: UserPath | None = None
    gpu_mapping_key: Text | None = None
    worker_num: Count | None = None


class CommArgs(Section):
    """``comm_args``: how ranks talk.

    Attributes
    ----------
    backend
        ``MPI``, inside one `mpirun` job; or ``sp``, FedML's name for one process without MPI, for simulations.
    """

    backend: Literal["MPI", "sp"]


class TrackingArgs(Section):
    """``tracking_args``: Weights & Biases and TensorBoard, off by default.

    Attributes
    ----------
    enable_wandb
        Whether FedML logs to Weights & Biases. With ``offline: true`` this needs ``WANDB_MODE=offline`` in the
        environment.
    wandb_project
        The project at Weights & Biases.
    run_name
        The run's name at Weights & Biases.
    wandb_only_server
        One wandb run, the server's, instead of one per rank.
    enable_tensorboard
        Whether each round is written to ``tensorboard/`` in the run folder; needs the extra ``tensorboard``.
    """

    enable_wandb: Flag = False
    wandb_project: Text | None = None
    run_name: Text | None = None
    wandb_only_server: Flag = True
    enable_tensorboard: Flag = False
