"""Whether the results of a study belong together: one revision of the code, the same images everywhere."""

from __future__ import annotations

from fedclip_plugin.study.tables.study_results import StudyResults


def consistency(findings: StudyResults) -> list[str]:
    """Return a sentence for each thing in which the results of a study differ from each other and should not.

    Parameters
    ----------
    findings
        Its results.
    """
    told = []
    revisions = sorted({result.code for result in findings.results.values()})
    if len(revisions) > 1:
        told.append(f"the results were made by {len(revisions)} revisions of the code: {', '.join(revisions)}")
    counts = {name: sorted(found) for name, found in _images(findings).items() if len(found) > 1}
    if counts:
        listed = "; ".join(f"{name} {' or '.join(map(str, found))}" for name, found in counts.items())
        told.append(f"the results are not of the same images; tested on: {listed}")
    return told


def _images(findings: StudyResults) -> dict[str, set[int]]:
    """Return the numbers of images that each domain, as target and as silo, was tested on."""
    found: dict[str, set[int]] = {}
    for result in findings.results.values():
        for part, counts in result.counts.items():
            name = f"{result.target} (target)" if part == "target" else part
            found.setdefault(name, set()).add(counts.images)
    return found
