"""The section of our own: everything FedML has no key for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedclip_plugin.recipe.prompts import USUAL_TEMPLATE
from fedclip_plugin.recipe.schema.codec_bytes import CodecName
from fedclip_plugin.recipe.schema.types import (
    BackboneName,
    Count,
    Delta,
    Epsilon,
    Flag,
    FolderName,
    FolderNames,
    Fraction,
    FromOne,
    MethodName,
    Names,
    NoiseMultiplier,
    NonNegative,
    Positive,
    PromptTemplate,
    Range,
    Section,
    Shares,
    Text,
    UpToThree,
    UserPath,
    Whole,
)

DP_DELTA, DP_CLIP = 1e-5, 1.0
"""What ``dp_delta`` and ``dp_clip`` are where they are left out."""

DP_SWITCHES = ("dp_target_epsilon", "dp_noise_multiplier")
"""Keys of which one at least asks for differential privacy."""

DP_ROUNDING = 1 + 1e-9
"""By which factor an epsilon may be above its bound, for sums and searches in floating point."""


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
        What is trained and sent; ``fedclip ls --methods`` says more of each. Without it: the paper's, ``fedclip``. To
        begin with, ``sigmoid_gate`` with ``augmented_views: 4`` is recommended, which ``fedclip init``, ``fit()`` and
        the recipes under ``own_images/`` write; docs/methods.md says why.
    start
        What ``method: linear_probe`` starts from. ``ridge``: the first round trains nothing, but is that of ``method:
        ridge``, in which all silos take part; later rounds train what it found. The other methods know ``zero_shot``.
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
    class_split
        Which classes silos train on, and choose the round by: ``all``, or for the protocol base-to-new ``base_new``,
        the first half of them in label order, rounded up. After the last round, zero-shot CLIP, the best and the last
        adapter are then also scored on test images of the other classes, which nothing was trained on: base among base
        names, new among new names, all among all. The adapter, and all other figures, are of the base classes.
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
    loss
        ``class_cross_entropy``: the cross entropy of each image over all classes, in place of the method's own loss,
        which for most is CLIP's contrastive one among the images of a batch. Without it: the method's own; with
        ``dp_target_epsilon`` or ``dp_noise_multiplier`` it is ``class_cross_entropy`` in any case.
    dp_target_epsilon
        Differential privacy of every training image: the largest epsilon, for ``dp_delta``, that a silo may spend. A
        silo for which the next round would exceed it trains no more. Without ``dp_noise_multiplier`` each silo takes
        the noise by which all rounds of the recipe just fit.
    dp_noise_multiplier
        Standard deviation of that privacy's noise, as a multiple of the most that one image can change. Higher is more
        private and less accurate. Without ``dp_target_epsilon`` what is spent is told and limits nothing.
    dp_delta
        The delta of the guarantee; it must be below 1 by a silo's number of training images. Without it: 1e-5.
    dp_clip
        Largest Euclidean norm of one image's gradient; what is longer is scaled down to it. Lower is less noise and
        more bias. Without it: 1. For methods that are trained.
    proximal_mu
        Weight of FedProx's proximal term in every silo's loss (Li et al. 2020, arXiv 1812.06127); 0 is FedAvg.
    zero_shot_distillation
        Weight of a term in every silo's loss that holds the adapter's answers to those of zero-shot CLIP: the
        divergence KL(zero-shot || adapter) of the class probabilities; 0 is none, 1 is a start. Higher keeps more of
        what CLIP knows of unseen domains, and fits the silos less. For methods on features.
    text_pull
        Weight of a term in every silo's loss that pulls trained class features back to CLIP's text features: their mean
        cosine distance, as in KgCoOp (Yao et al. 2023, arXiv 2303.13283); 0 is none, 8 is a start. Only for methods
        that train class features on cached image features.
    wise
        WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): the last round trains nothing, but takes the parameters
        between their zero-shot start, 0, and what was trained, 1, at the share that labels most of all silos'
        validation images rightly; the smallest of them if several do. ``true`` tries 0.25, 0.5, 0.75 and 1; a list
        other shares. Sums of right answers travel. Only for methods that start as zero-shot CLIP.
    robust_aggregation
        What the server does about silos that may send anything (docs/robust_aggregation.md). ``norm_bound``: an update
        whose norm is more than ``norm_bound_factor`` times the median of the round's is scaled down to that, and named;
        a round of one or two updates has no median to go by, and is averaged as it is. ``median``, ``trimmed_mean``
        (both by coordinate), ``multi_krum`` and ``geometric_median`` take the place of the average. ``none``: the
        average. Without it: ``norm_bound``; in a simulation, with FedML's ``defense_args``, ``federation:
        local`` or ``secure_sums`` ``none``.
    byzantine_silos
        How many silos of a round may send anything, f; required by ``trimmed_mean``, which leaves out the f lowest and
        f highest values, and by ``multi_krum``. A recipe is refused whose rounds may have too few updates for it:
        ``multi_krum`` needs 2 f + 3, the others 2 f + 1.
    norm_bound_factor
        Of ``norm_bound``: the largest norm, in multiples of the round's median. Lower leaves less to a bad silo; a good
        one with ten times the images of the others, which trains more steps, came to 3.7 on the miniature.
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
    secure_sums
        Whether the server sees the sum of the silos' updates alone, and of none of them by itself
        (docs/secure_sums.md): each silo masks its update with keys that it shares with each other silo. Of ``method:
        ridge``, ``ncm`` and ``gda``, and of ``start: ridge``, their sums. Needs three silos in a round, all of whose
        updates must arrive, a key on each silo's machine, and no rule that looks at single updates. A silo masks for
        ``min_silos`` members or more; without that key for as many as train in a round.
    secure_sums_bound
        Of ``secure_sums``: the largest change of one parameter in one round, for numbers in fixed point. An update with
        a larger one is scaled down to it as a whole, and the silo's log says so. Higher is less exact: the average of n
        silos is off by n times this over 2^32 at most.
    on_missing
        Of ``secure_sums``: what a silo does when it is to mask an update with other silos than before, of the same
        round or of another. ``abort``, which it is where the key is left out: it refuses, as two sums tell what those
        in one of them alone have sent; all silos train in every round. ``redo``: it goes along, and where a round is
        masked again its log names who left or joined; right only where the server is trusted to say truly who is lost.
        A run keeps the one that it began with.
    augmented_views
        Augmented views that are encoded once beside each of a silo's images, so that they are there whatever the seed's
        split; every epoch sees a training image or one of its views. Each costs one more encoding, and more of a change
        of style is survived; 0 trains on the images alone.
    personal_epochs
        Epochs in which each silo, after the last round, fine-tunes an adapter of its own; kept under ``personal/``.
    personal_statistics
        Of ``method: ridge``, ``ncm`` and ``gda``: whether each silo also solves an adapter of its own, of its own sums
        and a share of everybody else's, 0, 0.03, 0.1, 0.3 or 1 by its own validation images; kept under ``personal/``.
        Each silo is sent the sums of the others then; with two silos that is the other's.
    min_class_count
        Of ``method: ridge``, ``ncm`` and ``gda``, and of ``start: ridge``: a silo leaves a class of which it trains on
        fewer images out of what it sends, and its log says so. The sum of a class of one image is that image's feature;
        1 sends it.
    forgettable
        Of ``method: ridge``, ``ncm`` and ``gda``, with up to 32 silos: whether the server keeps each silo's sums in the
        run folder, so that ``fedclip forget`` can take a silo out. Silos are sent what is solved without each of them.
    client_drop_rate
        Of a simulation: the probability that the update of a client that trained is lost. Drawn from ``random_seed``.
    min_silos
        Smallest number of usable updates for a round to count; with fewer the job stops, and the last complete round is
        safe. It counts updates that arrived: a silo that fails ends the job whatever this says, and so does one that
        sends nothing for ``round_timeout``, unless there is a ``round_grace``; ``fedclip launch --keep-going`` starts
        it again without them, while so many silos are left. Without it: all silos sampled for the round; with
        ``client_drop_rate`` one, and so when ``dp_target_epsilon`` has ended the part of the others. With
        ``secure_sums`` it is 3 or more.
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
    round_grace
        With ``min_silos``: how many seconds a round still waits for other silos when so many have sent their updates.
        Then it goes on without those that are late: their updates of that round are left out, and console and record
        name them. A silo that has answered at last is sent the next round's adapter. Without it, a round waits for
        every silo, up to ``round_timeout``.
    calibrate
        Whether the best and the last adapter get, after the last round, a temperature that makes their confidences
        agree with the accuracy on the silos' validation images, and a threshold of confidence. Needs 40 validation
        images at the usual ``false_reject_rate``; sums of them travel.
    false_reject_rate
        Share of the silos' validation images whose confidence is below that threshold. On devices, and for
        ``fedclip predict``, an answer below it is ``unknown``, whether or not the image is of a known class: higher
        finds more images of other classes, and refuses more of the known ones. 0: no answer is ``unknown``.
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
    start: Literal["zero_shot", "ridge"] = "zero_shot"
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
    class_split: Literal["all", "base_new"] = "all"
    prompt_template: PromptTemplate = USUAL_TEMPLATE
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    feature_cache_dir: UserPath = Path(".fedclip/features")
    sample_range: Range | None = None
    on_bad_image: Literal["error", "skip"] = "error"
    weighting: Literal["uniform", "samples"] = "uniform"
    federation: Literal["federated", "local"] = "federated"
    loss: Literal["class_cross_entropy"] | None = None
    dp_target_epsilon: Epsilon | None = None
    dp_noise_multiplier: NoiseMultiplier | None = None
    dp_delta: Delta | None = None
    dp_clip: Positive | None = None
    proximal_mu: NonNegative = 0.0
    zero_shot_distillation: NonNegative = 0.0
    text_pull: NonNegative = 0.0
    wise: Shares = None
    robust_aggregation: (
        Literal["none", "norm_bound", "median", "trimmed_mean", "multi_krum", "geometric_median"] | None
    ) = None
    byzantine_silos: Count | None = None
    norm_bound_factor: FromOne = 5.0
    server_optimizer: Literal["none", "sgd", "adam"] = "none"
    server_lr: Positive = 1.0
    server_momentum: Fraction = 0.0
    codec: CodecName = "none"
    secure_sums: Flag = False
    secure_sums_bound: Positive = 1.0
    on_missing: Literal["abort", "redo"] | None = None
    augmented_views: Annotated[Whole, Field(ge=0, le=16)] = 0
    personal_epochs: Annotated[Whole, Field(ge=0)] = 0
    personal_statistics: Flag = False
    min_class_count: Count = 1
    forgettable: Flag = False
    client_drop_rate: Fraction = 0.0
    min_silos: Count | None = None
    min_images_per_silo: Count = 10
    shots: Count | None = None
    start_timeout: Positive = 1800.0
    round_timeout: Positive = 300.0
    round_grace: Positive | None = None
    calibrate: Flag = True
    false_reject_rate: Fraction = 0.05
    run_dir: UserPath | None = None
    images_per_class: Count = 80
    difficulty: UpToThree = 1.0
    keep_rounds: Count = 3
    encode_batch_size: Count | None = None
    encode_workers: Count | None = None
    offline: Flag = True

    @property
    def private(self) -> bool:
        """Whether it asks for differential privacy of training images."""
        return any(getattr(self, key) is not None for key in DP_SWITCHES)

    @property
    def delta(self) -> float:
        """The delta of which an epsilon is."""
        return DP_DELTA if self.dp_delta is None else self.dp_delta

    @property
    def clip(self) -> float:
        """To which norm the gradients of single images are clipped."""
        return DP_CLIP if self.dp_clip is None else self.dp_clip
