"""From FedML's arguments to what FedMLRunner takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from fedclip_edge.terminal import message
from fedclip_plugin.errors import FedClipError, RecipeError
from fedclip_plugin.federated.privacy.silo_privacy import silo_privacy
from fedclip_plugin.federated.rank_output import keep_own_words
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.pair import make_simulation_pair
from fedclip_plugin.federated.simulation.preparation import SimulationPreparation
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.startup.preflight import open_run, open_run_here
from fedclip_plugin.federated.startup.preparation import Preparation, Prepared
from fedclip_plugin.federated.startup.silo_egress import plain_fault
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.methods import METHODS, Adapter, create_adapter
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.methods.image_gradients import require_image_gradients
from fedclip_plugin.methods.registry import ZERO_SHOT
from fedclip_plugin.recipe import Recipe, default_run_dir, load_recipe
from fedclip_plugin.recipe.schema.fedclip import DP_SWITCHES
from fedclip_plugin.runs import RunFolder

Parts = tuple[list[Any], Adapter, FedClipTrainer | None, FedClipAggregator | None]


def build(args: Any, device: torch.device) -> Parts:
    """Return ``dataset, model, trainer, aggregator`` for this rank, ready for FedML's own runner or ours.

    For FedML users with a ``main`` of their own::

        args = fedml.init()
        device = fedml.device.get_device(args)
        dataset, model, trainer, aggregator = fedclip_plugin.build(args, device)
        FedMLRunner(args, device, dataset, model, trainer, aggregator).run()

    ``fedml.device.get_device`` (fedml 0.9.6) wants ``device_args.using_gpu`` in the recipe, though FedML calls it
    optional. All ranks call ``build`` at the same time: they agree on classes and backbone over MPI. Plain
    ``FedMLRunner`` collects no metrics, so that there is a final adapter but no best one, and it cannot do all that a
    recipe may ask for: :func:`require_plain` says what is refused. Of simulations FedML's own ``FedAvg_seq`` over MPI
    carries trainer and aggregator; ``FedClipRunner`` does all that a recipe asks for.

    Parameters
    ----------
    args
        FedML's flattened arguments, after ``fedml.init``.
    device
        Where this rank computes.

    Raises
    ------
    SystemExit
        With the exit code of the error, when the recipe or any rank's images are at fault; rank 0 says why on stderr.
    """
    comm = getattr(args, "comm", None)  # None in FedML's single process
    try:
        if getattr(args, "yaml_config_file", ""):
            load_recipe(Path(args.yaml_config_file))  # names the unknown keys, which flattened arguments no longer tell
        recipe = Recipe.from_flat(vars(args))
        require_plain(recipe)
        file = Path(getattr(args, "yaml_config_file", "") or "run.yaml")
        folder = RunFolder(recipe.fedclip_args.run_dir or default_run_dir(file))
        keep_own_words(folder.path / "logs" / f"rank_{args.rank}.log")
        if recipe.simulated:
            return _build_simulation(args, comm, device, recipe, folder)
        open_run(comm, folder, recipe, resume=False, fault=plain_fault(args.rank))
        prepared = Preparation(recipe, comm, device, progress=False, say=_quiet).run()
    except FedClipError as error:
        if args.rank == 0:
            print(message(f"fedclip: {error}"), file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from error
    except Exception as error:
        stop_job(comm, f"rank {args.rank}, before the first round", error)
    _take_checked(args, recipe)
    return make_pair(args, device, recipe, prepared, folder)


def _build_simulation(args: Any, comm: Any, device: torch.device, recipe: Recipe, folder: RunFolder) -> Parts:
    args.comm = comm
    if comm is None:
        folder.claim()
        open_run_here(folder, recipe, resume=False)
    else:
        open_run(comm, folder, recipe, resume=False)
    group = WorkerGroup.of(comm, recipe.fedclip_args.start_timeout)
    inputs = SimulationPreparation(recipe, group, device, progress=False, say=_quiet).run()
    _take_checked(args, recipe)
    return make_simulation_pair(args, device, recipe, inputs, folder, group)


def _take_checked(args: Any, recipe: Recipe) -> None:
    """Give FedML's arguments the checked values: to YAML, and so to FedML, 1e-3 is text."""
    for key, value in recipe.flat().items():
        if key not in ("client_id_list", "worker_num"):  # FedML fills them in on every rank
            setattr(args, key, value)


def make_pair(args: Any, device: torch.device, recipe: Recipe, prepared: Prepared, folder: RunFolder) -> Parts:
    """Return FedML's parts for what a rank has prepared."""
    settings, task = TrainingSettings.of(recipe), prepared.task
    model = create_adapter(task.method, prepared.frozen, recipe.common_args.random_seed, start=task.start).to(device)
    if prepared.class_scorer is not None:
        prepared.class_scorer.every.answering(model, 0)  # a method that cannot says so before it trains
    if settings.privacy is not None and not isinstance(model, ClosedForm):
        require_image_gradients(model)
    if args.rank == 0:
        args.device_type = "cpu"  # FedML's attacks and defences ask for it; updates are averaged on the CPU
        zero_shot = prepared.zero_shot.get("target")
        aggregator = FedClipAggregator(
            model, args, settings, task, prepared.silos, folder, zero_shot, prepared.sizes, prepared.class_scorer
        )
        aggregator.spent, aggregator.members = prepared.spent, prepared.members
        return [None, None, None, prepared.target, None, None, None, len(task.classes)], model, None, aggregator
    splits, index = prepared.splits, prepared.members.index(args.rank)
    assert splits is not None, "a silo has images"
    solved, silos = isinstance(model, ClosedForm), prepared.members.total
    personal = folder.personal(prepared.name)
    privacy = silo_privacy(settings, personal, len(splits.train), index, silos, solved)
    trainer = FedClipTrainer(
        model, args, settings, task, prepared.name, folder, prepared.zero_shot, prepared.class_scorer, privacy
    )
    data = [
        None,
        None,
        None,
        None,
        {index: len(splits.train)},
        {index: splits},
        {index: splits.test},
        len(task.classes),
    ]
    return data, model, trainer, None


def _quiet(text: str) -> None:
    """Say nothing on the console of somebody else's main."""


def require_plain(recipe: Recipe) -> None:
    """Refuse a recipe that FedML's plain runner would silently follow only in part; names every such key.

    Our own runner, its messages or its console fulfil them. ``proximal_mu``, ``zero_shot_distillation``, ``text_pull``,
    ``server_optimizer`` and ``augmented_views`` work with the plain one too: trainer, aggregator and features do them.
    """
    unset = {
        "wise": None,
        "robust_aggregation": "none",
        "round_grace": None,
    }  # keys without a value are left out of what is flat
    asked: dict[str, Any] = unset | recipe.flat()
    silos = asked["client_num_per_round" if recipe.simulated else "client_num_in_total"]
    only_launched = {
        "client_num_per_round": (silos, "every silo takes part in every round (FedML would mix up silos and ranks)"),
        "codec": ("none", "adapters travel as they are"),
        "secure_sums": (False, "the server would see each silo's update"),
        "federation": ("federated", "every silo goes on from the average"),
        "start": (ZERO_SHOT, "the first round trains like the others"),
        "wise": (None, "the last round trains like the others"),
        "round_grace": (None, "a round waits for every silo"),
        "class_split": ("all", "nobody scores the classes that are not trained"),
        "personal_epochs": (0, "silos are done when the last average arrives"),
        "enable_tensorboard": (False, "nobody collects the silos' metrics"),
    }
    if recipe.simulated:
        only_launched["robust_aggregation"] = ("none", "FedML's simulator sums updates and calls no hook")
    faults = [
        f"{key} = {asked[key]}: {reason}; set it to {works}"
        for key, (works, reason) in only_launched.items()
        if asked[key] != works
    ]
    faults += [
        f"{key} = {asked[key]}: nobody would keep what is spent of the images' privacy; leave it out"
        for key in DP_SWITCHES
        if key in asked
    ]
    if METHODS[asked["method"]].rounds is not None:
        faults.append(f"method = {asked['method']}: FedML's runner averages, and this method is solved; take another")
    if faults:
        raise RecipeError(
            "\n  ".join(["a main of your own cannot do all of this recipe; start it with fedclip launch, or", *faults])
        )
