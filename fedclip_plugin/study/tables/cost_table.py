"""What each case costs, measured in the runs that its accuracies come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.text import duration, size

PHASES = ("train", "evaluate", "aggregate", "target", "exchange")
"""Parts of a round in the order of the table."""


@dataclass(frozen=True)
class CaseCosts:
    """Costs of a case, means over its chosen cells.

    Attributes
    ----------
    parameters_trained, parameters_sent
        In a silo, and in an update; nothing is sent without federation.
    bytes_up, bytes_down
        Per round and silo.
    seconds
        Of a round, by phase; ``round`` is the whole.
    seconds_total, seconds_to_selected
        Of all rounds, and until the selected one.
    peak_silo, peak_server
        Most memory of any silo and of the server, bytes.
    """

    parameters_trained: int
    parameters_sent: int
    bytes_up: float
    bytes_down: float
    seconds: dict[str, float]
    seconds_total: float
    seconds_to_selected: float
    peak_silo: int
    peak_server: int


def federates(findings: StudyResults, case: str) -> bool:
    """Return whether a case needs any exchange; the bytes of one that does not are those of its evaluation."""
    return findings.plan.recipe(case).fedclip_args.federation == "federated"


def case_costs(results: Sequence[CellResult], federated: bool = True) -> CaseCosts:
    """Return the costs of a case from its chosen cells, at least one.

    Parameters
    ----------
    federated
        Whether the case needs the exchange that was measured.
    """
    costs = [result.costs for result in results]
    phases = dict.fromkeys(phase for cost in costs for phase in cost.seconds)
    peaks = {name: max(cost.peak_bytes.get(name, 0) for cost in costs) for cost in costs for name in cost.peak_bytes}
    return CaseCosts(
        parameters_trained=max(cost.parameters_trained for cost in costs),
        parameters_sent=federated * max(cost.parameters_sent for cost in costs),
        bytes_up=federated * fmean(cost.bytes_up for cost in costs),
        bytes_down=federated * fmean(cost.bytes_down for cost in costs),
        seconds={phase: fmean(cost.seconds.get(phase, 0.0) for cost in costs) for phase in phases},
        seconds_total=fmean(cost.seconds_total for cost in costs),
        seconds_to_selected=fmean(cost.seconds_to_selected for cost in costs),
        peak_silo=max((peak for name, peak in peaks.items() if name != "server"), default=0),
        peak_server=peaks.get("server", 0),
    )


def cost_table(findings: StudyResults) -> StudyTable | None:
    """Return what every case costs; None when nothing is known."""
    sender, rank = ("client", "worker") if findings.simulated else ("silo", "silo")
    head = ["cost", "parameters trained", "sent", f"up a round and {sender}", "down", "s a round", *PHASES]
    head += ["rounds", "to selected", f"peak of a {rank}", "of the server"]
    rows = []
    machines = dict[str, None]()
    for case, content in findings.plan.study.cases.items():
        results = findings.of_case(case)
        if results:
            costs = case_costs(results, federates(findings, case))
            rows.append([content.title, *_cells(costs, results[0].rounds)])
            machines |= dict.fromkeys(_machine(result) for result in results)
    if not rows:
        return None
    notes = (
        "seconds: mean of a round and its phases, the slowest silo's or worker's; to selected: until the selected "
        "round was complete, encoding and start-up left out; peak: most resident memory of a rank while the cell ran.",
        "bytes: - where nothing need be exchanged: without federation a round's messages only serve the evaluation.",
        f"machine: {'; '.join(machines)}",
    )
    return StudyTable("Costs, measured in the same runs", head, rows, notes)


def _cells(costs: CaseCosts, rounds: int) -> list[str]:
    return [
        f"{costs.parameters_trained:,}",
        f"{costs.parameters_sent:,}" if costs.parameters_sent else "-",
        size(costs.bytes_up) if costs.bytes_up else "-",
        size(costs.bytes_down) if costs.bytes_down else "-",
        f"{costs.seconds.get('round', 0.0):.3f}",
        *(f"{costs.seconds.get(phase, 0.0):.3f}" for phase in PHASES),
        str(rounds),
        duration(costs.seconds_to_selected),
        size(costs.peak_silo),
        size(costs.peak_server),
    ]


def _machine(result: CellResult) -> str:
    machine = result.machine
    return f"{machine.cpu}, {machine.cores} cores, {machine.gpu or 'no GPU'}"
