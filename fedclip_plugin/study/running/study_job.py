"""Every cell of a study, one after the other inside one mpirun job: starting up is paid once."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import torch
from mpi4py import MPI

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import FedClipError, FederationError, RunFolderError
from fedclip_plugin.federated.job import run_job
from fedclip_plugin.federated.messages.exchange import Exchange
from fedclip_plugin.federated.rank_output import say
from fedclip_plugin.federated.roles.task import Histories, Task
from fedclip_plugin.federated.startup.silo_egress import rank_egress
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.machine import forget_peak
from fedclip_plugin.runs import RoundRecord, RunFolder
from fedclip_plugin.study.definition import Study
from fedclip_plugin.study.running.answer_counts import Kinds
from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.running.measure import cell_result, drawn, measured, own_answers, silo_part
from fedclip_plugin.study.running.own_answers import KeptAnswers, kinds_of
from fedclip_plugin.study.running.plan import Cell, Plan
from fedclip_plugin.study.running.results_folder import ResultsFolder
from fedclip_plugin.study.running.study_messages import Ask, CellPart, Joint, Over, Question, RunCell, Selected
from fedclip_plugin.study.tables.accuracy_rows import wanted
from fedclip_plugin.study.tables.study_results import StudyResults

_KEPT_PARAMETERS = 4_000_000
"""Adapters of more parameters are dropped when their cell is done: a fully fine-tuned ViT-B/32 takes 605 MB."""

_IMPORTING = 2
"""Cells by whose start imports bring more; what later cells leave behind is not theirs, and may be garbage."""


class CellObserver:
    """Keeps quiet about a federation, of which a study says one line, and notes how many parameters it trains."""

    def __init__(self) -> None:
        self.parameters = 0

    def say(self, text: str) -> None:
        """Take no notice."""

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Take no notice."""

    def train(self, task: Task, parameters: int) -> None:
        """Note how many parameters are trained."""
        self.parameters = parameters

    def round(self, record: RoundRecord) -> None:
        """Take no notice: the rounds are in the cell's run folder."""


class StudyJob:
    """Runs what is missing of a study; every rank of the mpirun job does this.

    The server decides which cell is next and tells the others, so that all of them run the same federations. A cell
    that was stopped halfway begins anew.

    Parameters
    ----------
    results
        Where results go; only the server touches it.
    say
        Called on the server with a line for the console.
    only
        Names of the cases that are run; none stands for all of them.
    """

    def __init__(
        self,
        study: Study,
        results: ResultsFolder,
        progress: bool,
        say: Callable[[str], None],
        only: Sequence[str] = (),
    ) -> None:
        self._plan, self._results = Plan(study, only), results
        self._progress, self._say = progress, say
        self._comm = MPI.COMM_WORLD
        self._rank = self._comm.Get_rank()
        shared = self._plan.recipe(next(iter(self._plan.study.cases)))
        self._limit, self._simulated = shared.fedclip_args.start_timeout, shared.simulated
        self._known: dict[str, CellResult] = {}
        self._failed: dict[str, int] = {}
        self._given_up: dict[str, Path] = {}
        self._joint: dict[Question, Kinds | None] = {}
        self._uncounted: list[str] = []
        self._begun, self._ran = False, 0
        self._told: set[str] = set()

    def run(self) -> None:
        """Run every cell that has no result yet; MPI stays open.

        An unforeseen exception of one rank ends the job, as the others would wait for it.

        Raises
        ------
        FedClipError
            On every rank, when the results folder cannot be used, or a cell cannot start.
        """
        shared, folder = self._plan.recipe(next(iter(self._plan.study.cases))), self._results.path
        silo = self._rank > 0 and not self._simulated
        with rank_egress(self._comm, shared, folder, self._rank) if silo else nullcontext():
            self._act()

    def _act(self) -> None:
        """Do what the server orders, until it has no more orders."""
        try:
            while not isinstance(order := self._order(), Over):
                if isinstance(order, Ask):
                    self._count(order.questions)
                else:
                    self._run(self._plan.cell(order.case, order.target, order.seed, order.point))
        except FedClipError as error:
            if self._rank == 0 and not isinstance(error, FederationError):
                self._results.failures.clear()  # what the user can mend is no failure of the cell
            raise
        except Exception as error:
            stop_job(self._comm, f"rank {self._rank}, between federations", error)

    def _order(self) -> RunCell | Ask | Over:
        """Let the server say what is next; every rank hears it."""
        if self._rank == 0:
            try:
                order = self._next()
            except FedClipError:
                self._exchange().to_silos([Over(failed=True)] * self._comm.Get_size(), last=True)
                raise
            self._exchange().to_silos([order] * self._comm.Get_size())
            return order
        heard: RunCell | Ask | Over = self._exchange().from_server(RunCell, Ask, Over)
        if isinstance(heard, Over) and heard.failed:
            raise FedClipError("the study cannot go on: the server's console says why")
        return heard

    def _exchange(self, cell: Cell | None = None) -> Exchange:
        """Return the way between server and silos, which have names while a cell runs, or workers."""
        silos = cell.recipe.silo_names() or () if cell and not self._simulated else ()
        workers = [f"worker {rank}" for rank in range(1, self._comm.Get_size())] if self._simulated else []
        names = ("server", *silos, *workers)
        when = f"in {cell.name}" if cell else "between federations"
        return Exchange(self._comm, names, self._limit, when)

    def _begin(self) -> None:
        self._results.begin(self._plan.whole)
        self._results.failures.count()
        found = StudyResults.read(self._plan, self._results)
        self._known, self._given_up, self._joint = found.results, found.given_up, found.joint
        self._uncounted = list(self._plan.study.cases)
        self._failed = self._results.failures.by_cell()
        for line in (*found.faults, *found.left_out()):
            self._tell(line)
        try:
            forget_peak()
        except OSError as error:
            self._say(f"the memory of a cell cannot be told from that of the cells before it ({error})")
        self._say(f"{len(self._known)} of {self._plan.total()} cells are there")
        self._begun = True

    def _next(self) -> RunCell | Ask | Over:
        """Choose what is next: questions on what has been run, then a cell, those that failed last."""
        if not self._begun:
            self._begin()
        while self._uncounted:
            case = self._uncounted.pop()
            if asked := wanted(self._findings(), case) - self._joint.keys():
                return Ask(tuple(sorted(asked, key=repr)))
        return self._next_cell()

    def _findings(self) -> StudyResults:
        return StudyResults(self._plan, self._known, given_up=self._given_up, joint=self._joint)

    def _next_cell(self) -> RunCell | Over:
        """Choose the next cell and clear its place."""
        while todo := self._plan.todo(self._known, self._given_up):
            cell = min(todo, key=lambda cell: self._failed.get(cell.name, 0))
            if result := self._on_disk(cell):
                self._known[cell.name] = result
                continue
            shutil.rmtree(self._results.run_folder(cell), ignore_errors=True)
            self._results.failures.begin(cell.name)
            return RunCell(cell.case, cell.target, cell.seed, cell.point)
        return Over()

    def _on_disk(self, cell: Cell) -> CellResult | None:
        """Return the result of a cell that could be asked for only now, as its grid was not complete before."""
        try:
            return self._results.load(cell)
        except RunFolderError as error:
            self._tell(str(error))
            return None

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._say(line)

    def _run(self, cell: Cell) -> None:
        folder = RunFolder(self._results.run_folder(cell))
        gc.collect()  # FedML's managers are in cycles of references, and hold the models of the cell before
        if self._ran < _IMPORTING:
            gc.freeze()  # what imports brought stays: a third of a short cell would go into looking through it
        self._ran += 1
        with suppress(OSError):  # said once, at the beginning
            forget_peak()
        histories, observer = Histories(), CellObserver()
        run_job(cell.recipe, folder, resume=False, progress=self._progress, observer=observer, histories=histories)
        rounds = folder.rounds() if self._rank == 0 else []
        exchange = self._exchange(cell)
        if self._rank == 0:
            chosen = Selected(rounds[-1].best_round)
            exchange.to_silos([chosen] * self._comm.Get_size())
        else:
            chosen = exchange.from_server(Selected)
        selected = chosen.round
        answers = own_answers(cell, histories, selected)
        for part, own in answers.items():
            self._keep_answers(own, folder, part)
        if self._rank:
            exchange.to_server(silo_part(answers))
        else:
            told, picture = exchange.from_silos(CellPart), drawn(histories, selected)
            split = folder.read_class_split()
            found = measured(cell, rounds, answers, told, observer.parameters, picture, split)
            self._keep(cell, cell_result(cell, found), folder)

    def _keep_answers(self, answers: KeptAnswers, folder: RunFolder, part: str) -> None:
        try:
            answers.save(folder.path, part)
        except OSError as error:
            say(
                f"fedclip: {printable(part)}: {folder.path} does not take the answers of a cell ({error.strerror}): "
                "intervals that need them are left out"
            )

    def _count(self, questions: Sequence[Question]) -> None:
        """Let every rank say what it knows of several cells together, and note it."""
        known = Joint(tuple(self._kinds(question) for question in questions))
        if self._rank:
            self._exchange().to_server(known)
        else:
            answered = [known, *self._exchange().from_silos(Joint)]
            case = questions[0].cells[0].partition("/")[0]
            for number, question in enumerate(questions):
                found = (joint.kinds[number] for joint in answered)
                self._joint[question] = next((kinds for kinds in found if kinds is not None), None)
                if self._joint[question] is None:
                    self._tell(f"{case}: no rank has all answers for {printable(question.part)}: no interval for them")
            asked = wanted(self._findings(), case)
            self._results.save_joint(case, {each: kinds for each, kinds in self._joint.items() if each in asked})

    def _kinds(self, question: Question) -> Kinds | None:
        """Return what this rank knows: a silo of the silos' images, the server of the rest, and all in a simulation."""
        of_server = question.part == "target" or self._simulated
        if of_server != (self._rank == 0):
            return None
        cells = [cell for name in question.cells if (cell := self._plan.named(name))]
        places = [(self._results.run_folder(cell), cell.digest) for cell in cells]
        found = [KeptAnswers.load(place, question.part, digest) for place, digest in places]
        known = [answers for answers in found if answers]
        return kinds_of(known) if known and len(known) == len(question.cells) else None

    def _keep(self, cell: Cell, result: CellResult, folder: RunFolder) -> None:
        folder.tidy(keep_linked=result.costs.parameters_sent <= _KEPT_PARAMETERS)
        self._results.save(cell, result)
        self._results.failures.end(cell.name)
        self._known[cell.name] = result
        self._uncounted.append(cell.case)
        self._forget_others(cell)
        target = "" if result.target_accuracy is None else f"  target {100 * result.target_accuracy.selected:.1f}"
        self._say(
            f"[{len(self._known)}/{self._plan.total()}] {cell.name}  validation {100 * result.validation.selected:.1f}"
            f"  test {100 * result.source_mean('selected'):.1f}{target}  {result.costs.seconds_total:.1f} s"
        )

    def _forget_others(self, cell: Cell) -> None:
        """Drop the adapters of grid points that were not chosen; their figures stay."""
        chosen = self._plan.chosen(cell.case, cell.target, self._known, self._given_up)
        for other in self._plan.grid(cell.case, cell.target):
            if chosen is not None and other.point != chosen:
                RunFolder(self._results.run_folder(other)).tidy(keep_linked=False)
