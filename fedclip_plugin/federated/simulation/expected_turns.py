"""What the ranks of a simulation expect of each other's turns and answers: arrays, and who answers for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.messages.exchange import Layouts
from fedclip_plugin.federated.messages.federation_tensors import solution_rules, trials_rules
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout, TensorRule
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.simulation.client_data import Job
from fedclip_plugin.federated.simulation.round_plan import RoundPlan
from fedclip_plugin.federated.simulation.turns import Turn, WorkerAnswer
from fedclip_plugin.methods import Adapter, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm


class ExpectedTurns:
    """What is expected, by the plan that every rank has computed.

    Attributes
    ----------
    turns, answers
        Which arrays the server's turns have, and the workers' answers.
    """

    def __init__(self, model: Adapter, settings: TrainingSettings, plan: RoundPlan) -> None:
        self._settings, self._plan = settings, plan
        self.turns, self.answers = turn_layouts(model, settings), answer_layouts(model, settings, plan)

    def require(self, turn: Turn, answers: Sequence[WorkerAnswer]) -> None:
        """Refuse answers in which labels, clients or counts are missing or too many; a FederationError names whose."""
        for worker, answer in enumerate(answers):
            for what, right in self._rules(turn, answer, worker):
                if not right:
                    raise FederationError(
                        f"worker {worker + 1} answered turn {turn.number} with other {what} than the plan of the round "
                        "has for it: do all hosts have the same version and files?"
                    )

    def _rules(self, turn: Turn, answer: WorkerAnswer, worker: int) -> Iterator[tuple[str, bool]]:
        plan, none = self._plan, frozenset[int]()
        tried = turn.solutions is not None
        jobs, ends = frozenset(plan.jobs_of(worker)), self._settings.personal and not turn.train
        yield "labels", answer.predicted.keys() == (jobs if turn.score and not tried else none)
        yield "zero-shot labels", answer.zero_shot.keys() == (jobs if turn.zero_shot and not tried else none)
        own_jobs = frozenset(plan.own_jobs_of(worker)) if ends else none
        yield "labels of clients' own adapters", answer.personal.keys() == own_jobs
        yield "trials", not answer.trials or tried
        interpolates = turn.train and not tried and self._settings.interpolates(turn.number)
        yield "interpolations", len(answer.right) == (len(self._settings.wise) if interpolates else 0)
        trains = turn.train and not tried and not interpolates
        clients = list(plan.clients_of(worker, turn.number)) if trains else []
        yield "clients", [own.client for own in answer.trained] == clients
        yield "sums", answer.total is None or trains
        yield "sizes of updates", all(own.bytes_up >= 0 for own in answer.trained)


def turn_layouts(model: Adapter, settings: TrainingSettings) -> Layouts:
    """Return what a worker expects: the adapter, or solutions to be tried; in the end perhaps the sums of all."""
    rules = _named("adapter", TensorLayout.like(parameters_of(model)).rules)
    if not isinstance(model, ClosedForm):
        return {Turn: [TensorLayout(rules)]}
    rules["total"] = TensorRule("float64", (_flat(model),), optional=True)
    return {Turn: [TensorLayout(rules), TensorLayout(_named("solutions", solution_rules(model, settings, silos=1)))]}


def answer_layouts(model: Adapter, settings: TrainingSettings, plan: RoundPlan) -> Layouts:
    """Return what the server expects: labels of the jobs that there are, a sum of updates or single ones, trials."""
    parameters = parameters_of(model)
    rules = {
        **_labels("predicted", plan.jobs),
        **_labels("zero_shot", plan.jobs),
        **_labels("personal", plan.own_jobs if settings.personal else ()),
        **_named("trained.*.update.1", TensorLayout.like(ErrorFeedback(settings.codec).template(parameters)).rules),
    }
    sizes = [sum(tensor.numel() for tensor in parameters.values())]
    if isinstance(model, ClosedForm):
        sizes.append(_flat(model))
        rules |= _named("trials", trials_rules(model, settings, silos=1), optional=True)
    totals = (TensorRule("float64", (size,), optional=True) for size in sizes)
    return {WorkerAnswer: [TensorLayout({**rules, "total": total}) for total in totals]}


def _flat(model: ClosedForm) -> int:
    """Return how many numbers a client's sums are."""
    return len(model.no_sums(model.rows).flat())


def _labels(name: str, jobs: Sequence[Job]) -> dict[str, TensorRule]:
    return {
        f"{name}.{number}": TensorRule("int64", (job.stop - job.start,), optional=True)
        for number, job in enumerate(jobs)
    }


def _named(prefix: str, rules: Mapping[str, TensorRule], optional: bool = False) -> dict[str, TensorRule]:
    return {f"{prefix}.{name}": TensorRule(rule.dtype, rule.shape, optional) for name, rule in rules.items()}
