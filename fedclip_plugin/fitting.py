"""A federation from Python: ``fit`` trains in this process, ``Result`` holds what came of it."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fedclip_edge.arguments import as_path
from fedclip_edge.files import writing_to
from fedclip_edge.terminal import align
from fedclip_plugin.backbone import BUILT_IN
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.data.every_silo import require_images_here
from fedclip_plugin.data.silo_sources import MINIATURE, Images, keys_of_silos
from fedclip_plugin.errors import FedClipError, MethodError, RunFolderError
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.faults import Fault, recipe_error
from fedclip_plugin.recipe.from_keys import bare_keys, recipe_from_keys
from fedclip_plugin.recipe.rules.one_round import rounds_of
from fedclip_plugin.recipe.schema.fedclip import DP_SWITCHES
from fedclip_plugin.runs import RoundRecord, RunFolder, load_adapter
from fedclip_plugin.runs.closing_table import (
    calibration_cells,
    class_cells,
    class_note,
    client_cells,
    summary_rows,
    table_cells,
    zero_shot_warnings,
)
from fedclip_plugin.text import counted, percent

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]
    import torch

    from fedclip_plugin.federated.roles.task import Task

_USUAL_BACKBONE = "openai/clip-vit-base-patch32"
_USUAL_ROUNDS, _USUAL_VIEWS = 30, 4
_SOURCE = "fit(...)"
_RENAMED = {name: name for name in ("backbone", "method")} | {"comm_round": "rounds", "random_seed": "seed"}


def fit(
    silos: Mapping[str, Images] | str | Path,
    target: Images | None = None,
    *,
    backbone: str | None = None,
    method: str = "sigmoid_gate",
    rounds: int | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
    **keys: Any,
) -> Result:
    """Train an adapter across silos in this process, without MPI and without a recipe file.

    The trainer, the aggregator and the messages between them are those of ``fedclip launch``: on one machine and on
    the CPU the same job ends with the same bytes. Images are encoded once and kept in ``.fedclip/features``; images in
    memory are written once to ``.fedclip/data``. The ranks work one after the other, so that this suits few silos;
    methods on pixels hold one backbone a silo. Many clients are simulated by ``training_type="simulation"``, with
    ``client_num_in_total``, ``client_num_per_round`` and, of domains, ``silos_per_domain``.

    Parameters
    ----------
    silos
        The images of each silo by its name: a folder of class folders, a list of ``(path, label)``, a list file
        (``.csv``, ``.tsv``), or a dataset that yields an image and a label (Hugging Face ``datasets``, torchvision,
        torch). Or one folder ``<silo>/<class>/<image>``, one list file with ``silo_column="..."``, or ``"miniature"``;
        a folder or list without silos is shared out among ``client_num_in_total``.
    target
        Images that no silo trains on and every round is tested on: the same kinds, or the name of one of ``silos``,
        which then does not train. None: no such test.
    backbone
        A hub name whose files are on this machine, a folder, or ``clip-tiny`` (built in; it knows drawings, not
        photographs). None: ``openai/clip-vit-base-patch32``, and ``clip-tiny`` for the miniature.
    method
        What is trained; ``fedclip ls --methods`` lists them. The default is among the best by source validation in the
        miniature's study, on 4 augmented views of each image, which methods on features take unless ``augmented_views``
        says another number; ``fedclip`` is the method of the paper.
    rounds, seed
        The recipe's ``comm_round`` and ``random_seed``. None: 30 rounds, and 1 of methods that are solved in one.
    resume
        Continue the run in ``run_dir`` after its last complete round.
    progress
        Show bars on stderr.
    **keys
        Any other key of a recipe, such as ``learning_rate=1e-4``, ``augmented_views=0``, ``run_dir="runs/mine"`` or
        ``classes=["cat", "dog"]``; ``fedclip keys`` lists all. Sections that not every recipe has are given whole:
        ``defense_args={...}``.

    Returns
    -------
    Result
        Rounds, table and classifiers. Without ``run_dir`` its files go when it goes; :meth:`Result.save` keeps them.

    Raises
    ------
    RecipeError
        A keyword is no key of a recipe, a value is wrong, or keys contradict each other; lists every fault.
    FedClipError
        Images, backbone, run folder or memory do not allow the run, or a round has too few usable updates.

    Examples
    --------
    >>> from fedclip_plugin import fit
    >>> result = fit("miniature", target="sketch", images_per_class=12, rounds=3, progress=False)
    >>> [record.round for record in result.rounds]
    [0, 1, 2, 3]
    >>> result.best.saved.classes
    ('dog', 'elephant', 'giraffe', 'guitar', 'horse', 'house', 'person')
    """
    keys = bare_keys(keys, _SOURCE)
    usual = rounds_of(method) or _USUAL_ROUNDS
    own: dict[str, Any] = {"method": method, "comm_round": usual if rounds is None else rounds, "random_seed": seed}
    keys.setdefault("augmented_views", _usual_views(method, keys))
    wrong = [Fault(key, f"is given as {word}", keys[key]) for key, word in _RENAMED.items() if key in keys]
    if "device" in keys:
        rule = "is no key: a GPU is used where there is one; using_gpu=False keeps to the CPU"
        wrong.append(Fault("device", rule, str(keys["device"])))
    if resume and keys.get("run_dir") is None:
        wrong.append(Fault("resume", "continues a run: name it by run_dir", True))
    if keys.get("enable_tensorboard"):
        rule = "is of fedclip launch; take the result's to_frame(), or launch the file of its to_recipe()"
        wrong.append(Fault("enable_tensorboard", rule, True))
    for key in ("backend", "worker_num") if keys.get("training_type") == "simulation" else ():
        if keys.get(key) not in (None, "sp"):
            wrong.append(Fault(key, "is for processes under MPI, and fit is one process; leave it out", keys[key]))
    if wrong:
        raise recipe_error(_SOURCE, wrong)
    whole = keys_of_silos(silos, target, keys, _SOURCE)
    known = BUILT_IN if whole["dataset"] == MINIATURE else _USUAL_BACKBONE
    own["backbone"] = known if backbone is None else backbone
    recipe = recipe_from_keys({**whole, **own}, _SOURCE)
    require_images_here(recipe)
    named = recipe.fedclip_args.run_dir
    given = None if named is None else as_path(named, "run_dir", RunFolderError)
    if given is not None and RunFolder(given).rounds() and not resume:
        raise RunFolderError(f"{given} already holds a run; give resume=True to continue it, or another run_dir")
    place = Path(mkdtemp(prefix="fedclip-")) if given is None else given.absolute()
    result, folder = Result(recipe, place), RunFolder(place)
    if given is None:
        weakref.finalize(result, shutil.rmtree, place, True)
    import_fedml()
    from fedclip_plugin.federated.job_here import run_job_here

    with _Progress(recipe.train_args.comm_round, progress) as observer:
        run_job_here(recipe, folder, resume, progress, observer)
    return result


@dataclass(eq=False, repr=False)
class Result:
    """What a federation came to: its rounds, its table, and its adapters.

    In a notebook it shows itself as a table: zero-shot CLIP, the best round and the last one, by silo and target; of a
    simulation another one, of its clients.

    Attributes
    ----------
    recipe
        The recipe of the run, complete and checked.
    folder
        Its run folder.
    """

    recipe: Recipe
    folder: Path

    @cached_property
    def rounds(self) -> list[RoundRecord]:
        """The rounds in order; round 0 is the untrained adapter."""
        found = RunFolder(self.folder).rounds()
        if not found:
            raise RunFolderError(f"{self.folder} holds no run any more; keep a result by save(folder) or run_dir")
        return found

    @property
    def table(self) -> str:
        """Accuracy in %: zero-shot CLIP, the best round by mean source validation, the last round; as text."""
        return align(self._cells())

    @cached_property
    def best(self) -> Classifier:
        """The adapter of the highest mean source validation."""
        return self._classifier("adapters/best")

    @cached_property
    def final(self) -> Classifier:
        """The adapter of the last round."""
        return self._classifier("adapters/final")

    def personal(self, silo: str) -> Classifier:
        """Return a silo's own adapter, where there is one (``personal_epochs``, ``federation="local"``)."""
        return self._classifier(f"personal/{silo}/adapter")

    def to_frame(self) -> pandas.DataFrame:
        """Return the rounds as a data frame of pandas.

        One row a round, with means over the silos (``train_loss``, ``validation``, ``test``), ``target``, bytes and
        seconds, and ``validation`` and ``test`` of each silo as ``<silo>_validation``, ``<silo>_test``.
        """
        try:
            import pandas
        except ImportError as error:
            raise FedClipError("to_frame() needs pandas: pip install pandas; .rounds needs nothing") from error
        frame = pandas.DataFrame([_row(record) for record in self.rounds])
        return frame.set_index("round")

    def save(self, folder: str | Path) -> Path:
        """Copy the run folder, with all that ``fedclip`` commands need of one, and return where it is.

        Raises
        ------
        RunFolderError
            There is something in the folder already, it cannot be written, or is no path.
        """
        place = as_path(folder, "folder", RunFolderError)
        if place.resolve() != self.folder.resolve() and place.resolve().is_relative_to(self.folder.resolve()):
            raise RunFolderError(f"{place} is in the run folder itself; name another folder")
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise RunFolderError(f"{place} is not empty; name another folder, or remove it")
        with writing_to(f"run folder {place}", RunFolderError):
            shutil.copytree(self.folder, place, symlinks=True, dirs_exist_ok=True)
        return place

    def to_recipe(self) -> Recipe:
        """Return the recipe: ``to_yaml()`` of it is a file that ``fedclip launch`` runs, to the same bytes."""
        return self.recipe

    def __repr__(self) -> str:
        notes = (f"note: {text}" for text in self._notes())
        tables = [text for cells in self._more_cells() for text in ("", align(cells))]
        return "\n".join([self._title(), "", self.table, *tables, *notes])

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        tables = [_html_table(cells) for cells in (self._cells(), *self._more_cells())]
        notes = [self._title(), *self._notes()]
        return "".join(tables) + "".join(f"<p>{escape(note)}</p>" for note in notes)

    def _title(self) -> str:
        settings, last = self.recipe.fedclip_args, self.rounds[-1]
        many = f"{last.clients.clients:,} clients" if last.clients else f"{len(last.silos)} silos"
        return (
            f"{METHODS[settings.method].title} on {settings.backbone}, {many}, {counted(last.round, 'round')}, "
            f"seed {self.recipe.common_args.random_seed}; best round {last.best_round} "
            f"(validation {percent(self.rounds[last.best_round].validation)} %)"
        )

    def _cells(self) -> list[list[str]]:
        settings = self.recipe.fedclip_args
        return table_cells(summary_rows(self.rounds, METHODS[settings.method].title), settings.target_domain)

    def _more_cells(self) -> list[list[list[str]]]:
        """Return the tables below the first one, of clients, classes and the calibration, as far as there are such."""
        folder, title = RunFolder(self.folder), METHODS[self.recipe.fedclip_args.method].title
        best = self.rounds[-1].best_round
        found = (
            client_cells(self.rounds, title),
            class_cells(folder.read_class_split(), best, title),
            calibration_cells(folder.read_calibration(), best),
        )
        return [cells for cells in found if cells]

    def _notes(self) -> list[str]:
        split = RunFolder(self.folder).read_class_split()
        return [*([class_note(split)] if split else []), *zero_shot_warnings(self.rounds)]

    def _classifier(self, name: str) -> Classifier:
        place = self.folder / name
        if not place.exists():
            raise FedClipError(f"this run has no {name}; the recipe says what is kept")
        return Classifier(load_adapter(place), self.recipe.fedclip_args.backbone)


def _usual_views(method: str, keys: Mapping[str, Any]) -> int:
    try:
        kind = METHODS[method]
        noisy_sums = rounds_of(method) is not None and any(key in keys for key in DP_SWITCHES)
        return 0 if kind.on_pixels or noisy_sums else _USUAL_VIEWS
    except (KeyError, MethodError):  # which the recipe's rules tell of
        return 0


class _Progress:
    """Shows the rounds of a federation as a bar."""

    def __init__(self, rounds: int, shown: bool) -> None:
        self._bar = tqdm(total=rounds, desc="rounds", unit="round", disable=not shown)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Take no notice: the bars say it."""

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Note the rounds that are complete already."""
        self._bar.update(start_round)

    def train(self, task: Task, parameters: int) -> None:
        """Count time from here on."""
        self._bar.unpause()

    def round(self, record: RoundRecord) -> None:
        """Show a complete round."""
        if record.round:
            told = {} if record.validation is None else {"validation": percent(record.validation)}
            self._bar.set_postfix(told if record.target is None else told | {"target": percent(record.target)})
            self._bar.update()


def _row(record: RoundRecord) -> dict[str, Any]:
    names = ("round", "train_loss", "validation", "test", "target", "bytes_up", "bytes_down")
    row = {name: getattr(record, name) for name in names} | {"seconds": record.seconds.get("round")}
    for name, silo in record.silos.items():
        row |= {f"{name}_validation": silo.validation, f"{name}_test": silo.test}
    return row


def _html_table(cells: list[list[str]]) -> str:
    head, *body = cells
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
