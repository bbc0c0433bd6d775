"""The part of a run's page on its calibration, and the closing table of the console."""

import numpy as np
import pytest

from fedclip_edge.reliability import BINS, bin_sums
from fedclip_plugin.report.run.calibration_section import calibration_section
from fedclip_plugin.runs.calibration_record import CalibrationRecord
from fedclip_plugin.runs.closing_table import calibration_cells


def images(count, claimed, right, unknown):
    """Return images of which all are answered with one confidence, before and after, and a share is right."""
    correct = np.arange(count) < right * count

    def bins(confidence):
        counts, good, sums = bin_sums(np.full(count, confidence), correct)
        return {"counts": counts.tolist(), "right": good.tolist(), "confidence": sums.tolist()}

    before, after = map(bins, claimed)
    return {"images": count, "before": before, "after": after, "unknown": unknown}


def record(target=True, rounds=(3, 5)):
    own = {"temperature": 1.6, "threshold": 0.41, "false_reject_rate": 0.05, "images": 300}
    own["sources"] = images(200, (0.9, 0.75), 0.7, 0.06)
    own |= {"target": images(100, (0.9, 0.8), 0.5, 0.11)} if target else {}
    return CalibrationRecord.model_validate({"adapters": [{"round": number, **own} for number in rounds]})


def test_the_table_tells_errors_and_what_is_refused():
    head, best, last = calibration_cells(record(), 3)
    told = [
        "calibration",
        "temperature",
        "unknown below",
        "ECE sources",
        "chance sources",
        "unknown sources",
        "ECE target",
        "chance target",
        "unknown target",
    ]
    assert head == told
    assert best == ["best round 3", "1.6", "0.41", "20.0 -> 5.0", "2.4", "6.0", "40.0 -> 30.0", "3.2", "11.0"]
    assert last == ["last round 5", *best[1:]]
    assert calibration_cells(None, 3) == []
    assert [row[0] for row in calibration_cells(record(target=False, rounds=(5,)), 5)[1:]] == ["best round 5"]


@pytest.mark.parametrize("target", [True, False])
def test_the_section_draws_before_and_after_on_other_images(target):
    section = calibration_section(record(target), 3, "sketch")
    assert section.tables[0].head[0] == "calibration"
    assert "300 validation images, 200 test images" in section.tables[0].caption
    names = ["calibration_sources", *(["calibration_target"] if target else [])]
    assert [picture.name for picture in section.pictures] == names
    assert "before 20.0 %, round 3, after 5.0 %" in section.pictures[0].caption
    assert "5 % of them are below it" in section.text[0]


def test_a_run_without_calibration_has_no_section():
    assert calibration_section(None, 3, "sketch") is None


def test_bins_are_fifteen_and_no_count_is_below_zero():
    made = record().model_dump(mode="json")
    for spoil in ([1] * (BINS - 1), [-1] * BINS):
        made["adapters"][0]["sources"]["before"]["counts"] = spoil
        with pytest.raises(ValueError, match="counts"):
            CalibrationRecord.model_validate(made)
