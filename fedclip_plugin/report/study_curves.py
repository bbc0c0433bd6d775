"""A case's accuracy by round: the mean over domains, and its deviation over seeds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedclip_plugin.report.plots.panels import Curve
from fedclip_plugin.study import CellResult, Findings


def mean_curve(findings: Findings, case: str) -> Curve | None:
    """Return a case's curve on the targets, or on the sources in a study without targets.

    Parameters
    ----------
    findings
        Results of the study.
    case
        Its name.

    Returns
    -------
    Curve or None
        None while no seed is known on every target. Grid points may differ in their number of rounds: the curve ends
        with the shortest.
    """
    targets = findings.plan.study.held_out()
    by_seed: dict[int, list[CellResult]] = {}
    for result in findings.of_case(case):
        by_seed.setdefault(result.seed, []).append(result)
    whole = [results for results in by_seed.values() if len(results) == len(targets)]
    if not whole:
        return None
    length = min(len(result.curve.round) for results in whole for result in results)
    seeds = np.array([np.mean([_curve(result)[:length] for result in results], axis=0) for results in whole])
    zero_shot = float(np.mean([_zero_shot(result) for results in whole for result in results]))
    return Curve(
        findings.plan.study.cases[case].title,
        np.array(whole[0][0].curve.round[:length]),
        seeds.mean(0),
        zero_shot,
        spread=seeds.std(0, ddof=1) if len(seeds) > 1 else None,
    )


def _curve(result: CellResult) -> npt.NDArray[np.float64]:
    values = result.curve.test if result.target is None else result.curve.target
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _zero_shot(result: CellResult) -> float:
    accuracy = result.target_accuracy
    return result.source_mean("zero_shot") if accuracy is None else accuracy.zero_shot
