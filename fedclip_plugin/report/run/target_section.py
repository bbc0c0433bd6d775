"""The part of a run's page that looks at the answers on the target domain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fedclip_plugin.data import open_rgb
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.report.answer_pictures import Labelled, confusion_picture, reliability_picture
from fedclip_plugin.report.page import Picture, Section
from fedclip_plugin.report.plots.samples import COLUMNS, Sample, sample_grid
from fedclip_plugin.report.run.target_answers import TargetAnswers
from fedclip_plugin.study.running.calibration import calibrate, confusion
from fedclip_plugin.text import percent

TITLE = "Answers on the target"
_SHOWN = 4 * COLUMNS
_SIDE = 96


def target_section(answer: Callable[[], TargetAnswers | None], recorded: float | None) -> Section:
    """Return the section; what cannot be shown on this machine is said in its place.

    Parameters
    ----------
    answer
        Labels the target's images.
    recorded
        Accuracy of the best round as the run measured it.
    """
    try:
        answers = answer()
        samples = None if answers is None else _samples(answers)
    except FedClipError as error:
        return Section(TITLE, notes=[f"Not shown, since it could not be worked out on this machine: {error}"])
    if answers is None or samples is None:
        return Section(TITLE, notes=["This run held no target domain out, so there is nothing to show here."])
    true, classes, domain = answers.images.labels, answers.images.classes, answers.images.name
    sides = {"zero-shot CLIP": answers.zero_shot, f"best round {answers.round}": answers.selected}
    matrices = {title: confusion(true, side.predicted, len(classes)) for title, side in sides.items()}
    found = {title: calibrate(side.confidence, side.predicted == true) for title, side in sides.items()}
    pictures = [
        confusion_picture("confusion", domain, matrices, classes),
        reliability_picture("reliability", domain, found),
        samples,
    ]
    return Section(TITLE, text=[_told(answers, recorded)], pictures=pictures)


def _told(answers: TargetAnswers, recorded: float | None) -> str:
    now = answers.accuracy(answers.selected)
    told = (
        f"The {len(answers.images)} images of {answers.images.name}, labelled on this machine by zero-shot CLIP "
        f"({percent(answers.accuracy(answers.zero_shot))} %) and by the adapter of round {answers.round} "
        f"({percent(now)} %)"
    )
    if recorded is None:
        return f"{told}."
    if abs(now - recorded) * len(answers.images) < 0.5:
        return f"{told}, as the run itself measured it."
    return f"{told}; the run itself measured {percent(recorded)} %: other images, or another kind of machine."


def _samples(answers: TargetAnswers) -> Picture:
    """Draw images at equal distances in the list, which is ordered by class: about as many wrong as among all."""
    count = min(_SHOWN, len(answers.images))
    chosen = np.linspace(0, len(answers.images) - 1, count).round().astype(int).tolist()
    paths, names = answers.images.paths(), answers.images.classes
    samples = [_sample(open_rgb(paths[i]), names, int(answers.images.labels[i]), answers.selected, i) for i in chosen]
    wrong = sum(sample.predicted != sample.true for sample in samples)
    return Picture(
        "samples",
        sample_grid(samples),
        f"{count} images of the target with answer and confidence; {wrong} answers are wrong.",
        f"{count} of {len(answers.images)} images at equal distances, with the answer of round {answers.round} and its "
        f"confidence. A thick frame and a cross mark the {wrong} wrong ones; the true class stands below them.",
    )


def _sample(image: Image.Image, names: tuple[str, ...], true: int, answers: Labelled, index: int) -> Sample:
    pixels: npt.NDArray[np.uint8] = np.asarray(ImageOps.fit(image, (_SIDE, _SIDE)))
    return Sample(pixels, names[true], names[answers.predicted[index]], float(answers.confidence[index]))
