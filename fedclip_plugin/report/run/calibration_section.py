"""How the adapters' confidences were calibrated after the last round, and what that is worth on other images."""

from __future__ import annotations

from fedclip_plugin.report.answer_pictures import reliability_picture
from fedclip_plugin.report.page import Section, Table
from fedclip_plugin.runs.calibration_record import CalibrationRecord
from fedclip_plugin.runs.closing_table import calibration_cells

TITLE = "Calibration"

_TOLD = (
    "After the last round one temperature was fitted to all silos' validation images, and the threshold set at which "
    "{rate:g} % of them are below it: answers of a lower confidence are unknown. ECE is the expected calibration error "
    "before and after, chance what it would be on so few images if the calibration were perfect, unknown the share "
    "of answers below the threshold, all on images that took no part: the silos' "
    "test images, and the target's. It promises nothing of other kinds of images, and nothing of how many images of "
    "other classes are found."
)


def calibration_section(record: CalibrationRecord | None, best: int, target: str | None) -> Section | None:
    """Return the section; None for a run that was not calibrated. Round `best` is drawn."""
    if record is None:
        return None
    head, *rows = calibration_cells(record, best)
    first = record.adapters[0]
    places = {"sources": ("the sources' test images", first.sources), "target": (str(target), first.target)}
    drawn = {name: (domain, own) for name, (domain, own) in places.items() if own is not None}
    caption = f"{first.images} validation images, {first.sources.images} test images"
    caption += f", {first.target.images} of the target." if first.target else "."
    return Section(
        TITLE,
        text=[_TOLD.format(rate=100 * first.false_reject_rate)],
        tables=[Table(head, rows, caption)],
        pictures=[
            reliability_picture(
                f"calibration_{name}",
                domain,
                {"before": own.before.reliability, f"round {first.round}, after": own.after.reliability},
            )
            for name, (domain, own) in drawn.items()
        ],
    )
