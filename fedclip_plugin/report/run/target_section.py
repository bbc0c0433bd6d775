"""How zero-shot CLIP and a run's best adapter label the target domain's images, and the section that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fedclip_edge.metrics import confusion
from fedclip_edge.reliability import reliability
from fedclip_edge.sample_range import SampleRange
from fedclip_miniature import ensure_miniature
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.data import ImageSet, open_rgb, split_target, target_image_set
from fedclip_plugin.data.splits import base_count
from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated.roles.task import Answers
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.report.answer_pictures import confusion_picture, reliability_picture
from fedclip_plugin.report.page import Picture, Section
from fedclip_plugin.report.plots.samples import COLUMNS, Sample, sample_grid
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.text import percent

TITLE = "Answers on the target"
_SHOWN = 4 * COLUMNS
_SIDE = 96


@dataclass(frozen=True)
class TargetAnswers:
    """Answers for the target domain.

    Attributes
    ----------
    images
        The N readable images.
    zero_shot, selected
        CLIP without an adapter, and the best round's adapter.
    sample_range
        What is black and white in samples of more than 8 bits.
    """

    images: ImageSet
    zero_shot: Answers
    selected: Answers
    round: int
    sample_range: SampleRange | None = None


def answer_target(recipe: Recipe, folder: RunFolder) -> TargetAnswers | None:
    """Label the target domain's images with ``adapters/best``; images that the cache lacks are encoded.

    Parameters
    ----------
    recipe
        The run's recipe; its paths hold from the current folder, as when it ran.

    Returns
    -------
    TargetAnswers or None
        None when the run has no target domain.

    Raises
    ------
    FedClipError
        When images, backbone or adapter are not on this machine, or do not belong together.
    """
    images = _target_images(recipe)
    if images is None:
        return None
    settings = recipe.fedclip_args
    classifier = Classifier.load(folder.adapters / "best", settings.backbone)
    saved = classifier.saved
    if images.classes != saved.classes:
        raise DataError(
            f"{images.root} holds the classes {', '.join(images.classes)}; the adapter was trained on "
            f"{', '.join(saved.classes)}: give back the images that the run had"
        )
    found = classifier.evaluate(
        [images],
        skip_bad=settings.on_bad_image == "skip",
        cache=Path(settings.feature_cache_dir),
        batch_size=settings.encode_batch_size,
        workers=settings.encode_workers or 0,
    )[images.name]
    return TargetAnswers(images.subset(found.kept), found.zero_shot, found.adapter, saved.round, saved.sample_range)


def _target_images(recipe: Recipe) -> ImageSet | None:
    """List the target's images, with ``base_new`` of base classes alone; draw those of the built-in data set."""
    settings = recipe.fedclip_args
    root: Path | None = None
    if recipe.draws_images and settings.target_domain:
        root = ensure_miniature(
            recipe.data_args.data_cache_dir,
            settings.images_per_class,
            settings.difficulty,
            domains=[settings.target_domain],
        )
    images = target_image_set(recipe, root)
    if images is None or settings.class_split == "all":
        return images
    rows = split_target(images, base_new=True).test
    return replace(images.subset(rows), classes=images.classes[: base_count(images.classes)])


def target_section(answer: Callable[[], TargetAnswers | None], recorded: float | None) -> Section:
    """Return the section; what cannot be shown on this machine is said in its place."""
    try:
        answers = answer()
        samples = None if answers is None else _samples(answers)
    except FedClipError as error:
        return Section(TITLE, notes=[f"Not shown, since it could not be worked out on this machine: {error}"])
    if answers is None or samples is None:
        return Section(TITLE, notes=["This run held no target domain out, so there is nothing to show here."])
    true, classes, domain = answers.images.labels, answers.images.classes, answers.images.name
    sides = {"zero-shot CLIP": answers.zero_shot, f"best round {answers.round}": answers.selected}
    predicted = {title: side.predicted.numpy() for title, side in sides.items()}
    confidence = {title: side.confidence.double().numpy() for title, side in sides.items()}
    matrices = {title: confusion(true, predicted[title], len(classes)) for title in sides}
    found = {title: reliability(confidence[title], predicted[title] == true) for title in sides}
    pictures = [
        confusion_picture("confusion", domain, matrices, classes),
        reliability_picture("reliability", domain, found),
        samples,
    ]
    return Section(TITLE, text=[_told(answers, recorded)], pictures=pictures)


def _told(answers: TargetAnswers, recorded: float | None) -> str:
    now = answers.selected.score.accuracy
    told = (
        f"The {len(answers.images)} images of {answers.images.name}, labelled on this machine by zero-shot CLIP "
        f"({percent(answers.zero_shot.score.accuracy)} %) and by the adapter of round {answers.round} "
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
    read = partial(open_rgb, sample_range=answers.sample_range)
    samples = [_sample(read(paths[i]), names, int(answers.images.labels[i]), answers.selected, i) for i in chosen]
    wrong = sum(sample.predicted != sample.true for sample in samples)
    return Picture(
        "samples",
        sample_grid(samples),
        f"{count} images of the target with answer and confidence; {wrong} answers are wrong.",
        f"{count} of {len(answers.images)} images at equal distances, with the answer of round {answers.round} and its "
        f"confidence. A thick frame and a cross mark the {wrong} wrong ones; the true class stands below them.",
    )


def _sample(image: Image.Image, names: tuple[str, ...], true: int, answers: Answers, index: int) -> Sample:
    pixels: npt.NDArray[np.uint8] = np.asarray(ImageOps.fit(image, (_SIDE, _SIDE)))
    return Sample(pixels, names[true], names[int(answers.predicted[index])], float(answers.confidence[index]))
