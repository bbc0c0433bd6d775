"""The section of our own: everything FedML has no key for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedclip_plugin.recipe.prompts import USUAL_TEMPLATE
from fedclip_plugin.recipe.schema.types import (
    BackboneName,
    Count,
    Flag,
    FolderName,
    FolderNames,
    Fraction,
    MethodName,
    Names,
    NonNegative,
    Positive,
    PromptTemplate,
    Range,
    Section,
    Text,
    UpToThree,
    UserPath,
    Whole,
)


class FedClipArgs(Section):
    """``fedclip_args``: backbone, method, images, and how the job behaves.

    Paths may hold ``~`` and environment variables; a relative path is relative to the folder in which the
    command runs.

    Attributes
    ----------
    backbone
        The frozen CLIP, SigLIP or OpenCLIP model: ``clip-tiny`` (built in), a hub name (``owner/name``), or a folder
        (with a ``/``); not all methods work with all kinds. The default knows drawings, not photographs: for
        photographs name a CLIP such as ``openai/clip-vit-base-patch32``, which ``fit()`` and ``fedclip init`` take for
        images of your own unless told otherwise.
    method
        What is trained and sent; ``fedclip ls --methods`` says more of each.
    data_layout
        How images lie: ``domains``: ``root/<domain>/<class>/<image>``, one domain per silo; ``classes``:
        ``root/<class>/<image>``, distributed among silos; ``splits``: ``root/<split>/<class>/<image>`` with the splits
        ``train``, ``val`` and ``test``, distributed likewise, each silo's share of them being its split; ``silos``: one
        folder per silo; ``list``: images that ``data_list`` names.
    data_root
        The root, or a pattern with ``{silo}`` for the silo's name. Left out only with ``dataset: miniature``, with
        ``data_silo_config`` and no target domain, and for ``list``, where files are then relative to their list.
    data_list
        For ``list``: a ``.csv`` or ``.tsv`` with a header, or a ``.txt`` or ``.lst`` with a file and a label per
        line. With ``{silo}`` for the silo's name, every silo has its own. Without it and without ``silo_column``, the
        images are distributed among silos as for ``classes``.
    file_column
        Column of a list's image files; only with ``data_layout: list``.
    label_column
        Column of a list's labels, which are text; only with ``data_layout: list``.
    silo_column
        Column of a list whose values are the silos, and perhaps the target domain; only with ``data_layout: list``.
    group_column
        Column of a list for what must stay together, such as the patient; only with ``data_layout: list``. No group is
        in two of a silo's splits, or in two silos when a list is distributed.
    split_column
        Column of a list for your own split: train, val (valid, validation) or test; only with ``data_layout: list``.
        Without it: 60, 20 and 20 % of each silo's images.
    domains
        Domain folders, in silo order. Without it: all folders, sorted.
    silos
        Silos, in silo order: folders for ``data_layout: silos``, which requires it, values of ``silo_column``, or names
        for the silos that images are distributed among.
    silos_per_domain
        Of a simulation with ``data_layout: domains``: the number of clients that share each domain's images; shared out
        by ``partition_method``. Without it: one client a domain.
    target_domain
        The domain that no silo trains on and the server tests on. Without it, there is no such test.
    classes
        Class folders, or labels of a list, in label order; a silo may lack some of them. Without it: those found,
        sorted, the same in every silo.
    prompt_template
        What the images are, in words; the one ``{}`` stands for the class name.
    precision
        Number format of the backbone. ``auto`` picks the fastest that agrees with fp32 on a few images.
    feature_cache_dir
        Where encoded images are kept.
    sample_range
        The values that are black and white, such as ``[0, 4095]``, in samples of more than 8 bits (PNG, TIFF, DICOM
        without a window, there after the rescale to such as Hounsfield units). Without it: the range that a TIFF
        declares, else all values of the file's own bits. A DICOM's own window counts before either.
    on_bad_image
        What an unreadable image does: ``error`` stops the run, ``skip`` leaves the image out and counts it.
    weighting
        What a silo's update weighs. ``uniform``: every silo alike, whatever its size, as in the paper's reference code
        (``client_weights`` of microsoft/PersonalizedFL, fedclip/); ``samples``: by its number of training images, which
        is FedAvg as McMahan et al. (2017, arXiv 1602.05629) define it.
    federation
        ``federated``, or ``local``: every silo trains alone and nothing is averaged, the baseline without federation.
    proximal_mu
        Weight of FedProx's proximal term in every silo's loss (Li et al. 2020, arXiv 1812.06127); 0 is FedAvg.
    server_optimizer
        What the server does with the average, FedOpt (Reddi et al. 2021, arXiv 2003.00295). ``none`` takes it as the
        next adapter; so does ``sgd`` with learning rate 1 and momentum 0.
    server_lr
        Learning rate of the server's optimizer; only for ``server_optimizer: sgd`` or ``adam``, and
        required for ``adam``; 0.01 is a start.
    server_momentum
        Momentum of the server's optimizer; only for ``server_optimizer: sgd``. 0.9 is FedAvgM.
    codec
        How updates travel, both ways: ``none`` as they are, ``fp16`` and ``int8`` as differences in 16 or 8 bits with
        error feedback.
    augmented_views
        Augmented views that are encoded once beside each of a silo's images, so that they are there whatever the seed's
        split; every epoch sees a training image or one of its views. Each costs one more encoding, and more of a change
        of style is survived; 0 trains on the images alone.
    personal_epochs
        Epochs in which each silo, after the last round, fine-tunes an adapter of its own; kept under ``personal/``.
    client_drop_rate
        Of a simulation: the probability that the update of a client that trained is lost. Drawn from ``random_seed``.
    min_silos
        Smallest number of usable updates for a round to count; with fewer the job stops, and the last complete round is
        safe. It counts updates that arrived: a silo that fails, or is silent for ``round_timeout``, ends the job
        whatever this says. Without it: all silos sampled for the round; with ``client_drop_rate`` one.
    min_images_per_silo
        A silo with fewer images is refused.
    shots
        How many images of each class in its training split a silo trains on, drawn from it by ``random_seed``;
        validation and test splits stay whole. Without it: all. A silo with fewer of a class is refused.
    start_timeout
        How long, in seconds, the server waits before round 0 for a rank that sends nothing. A rank that is still
        encoding its images sends nothing: give more than the longest encoding.
    round_timeout
        How long, in seconds, the server waits in a round for a silo that sends nothing. In a simulation for a worker,
        as long for each client that it trains.
    run_dir
        Where the run is written. Without it: ``runs/`` and the recipe's name.
    images_per_class
        Images per class and domain, of the miniature only.
    difficulty
        How hard the drawings are, of the miniature only.
    keep_rounds
        Adapters of how many last rounds are kept on disk, besides best and final.
    encode_batch_size
        Images per forward pass of the backbone. Without it: 256 on a GPU, 64 on a CPU.
    encode_workers
        Threads that decode images; on a GPU, where there are thousands of images, processes. Without it: this rank's
        share of the host's cores, 2 or more.
    offline
        Whether ``enable_wandb`` is refused unless ``WANDB_MODE=offline`` is set. Everything else opens no connection
        anyway.
    """

    backbone: BackboneName = "clip-tiny"
    method: MethodName = "fedclip"
    data_layout: Literal["domains", "classes", "splits", "silos", "list"] = "domains"
    data_root: UserPath | None = None
    data_list: UserPath | None = None
    file_column: Text = "file"
    label_column: Text = "label"
    silo_column: Text | None = None
    group_column: Text | None = None
    split_column: Text | None = None
    domains: FolderNames | None = None
    silos: FolderNames | None = None
    silos_per_domain: Count | None = None
    target_domain: FolderName | None = None
    classes: Names | None = None
    prompt_template: PromptTemplate = USUAL_TEMPLATE
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    feature_cache_dir: UserPath = Path(".fedclip/features")
    sample_range: Range | None = None
    on_bad_image: Literal["error", "skip"] = "error"
    weighting: Literal["uniform", "samples"] = "uniform"
    federation: Literal["federated", "local"] = "federated"
    proximal_mu: NonNegative = 0.0
    server_optimizer: Literal["none", "sgd", "adam"] = "none"
    server_lr: Positive = 1.0
    server_momentum: Fraction = 0.0
    codec: Literal["none", "fp16", "int8"] = "none"
    augmented_views: Annotated[Whole, Field(ge=0, le=16)] = 0
    personal_epochs: Annotated[Whole, Field(ge=0)] = 0
    client_drop_rate: Fraction = 0.0
    min_silos: Count | None = None
    min_images_per_silo: Count = 10
    shots: Count | None = None
    start_timeout: Positive = 1800.0
    round_timeout: Positive = 300.0
    run_dir: UserPath | None = None
    images_per_class: Count = 80
    difficulty: UpToThree = 1.0
    keep_rounds: Count = 3
    encode_batch_size: Count | None = None
    encode_workers: Count | None = None
    offline: Flag = True
