"""How zero-shot CLIP and a run's best adapter label the target domain's images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fedclip_miniature import ensure_miniature
from fedclip_plugin.data import ImageSet, target_image_set
from fedclip_plugin.errors import DataError
from fedclip_plugin.features import FeatureSet, FeatureSource
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import Adapter, ZeroShot
from fedclip_plugin.methods.registry import restore_adapter
from fedclip_plugin.recipe import METHODS, Recipe
from fedclip_plugin.report.answer_pictures import Labelled
from fedclip_plugin.runs import RunFolder, SavedAdapter, load_adapter


@dataclass(frozen=True)
class TargetAnswers:
    """Answers for the target domain.

    Attributes
    ----------
    images
        The N readable images.
    zero_shot, selected
        CLIP without an adapter, and the best round's adapter.
    round
        That round.
    """

    images: ImageSet
    zero_shot: Labelled
    selected: Labelled
    round: int

    def accuracy(self, answers: Labelled) -> float:
        """Return the share of images that ``answers`` has right."""
        return float((answers.predicted == self.images.labels).mean())


def answer_target(recipe: Recipe, folder: RunFolder) -> TargetAnswers | None:
    """Label the target domain's images with ``adapters/best``; images that the cache lacks are encoded.

    Parameters
    ----------
    recipe
        The run's recipe; its paths hold from the current folder, as when it ran.
    folder
        The run.

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
    saved = load_adapter(folder.adapters / "best")
    if images.classes != saved.classes:
        raise DataError(
            f"{images.root} holds the classes {', '.join(images.classes)}; the adapter was trained on "
            f"{', '.join(saved.classes)}: give back the images that the run had"
        )
    source = _source(recipe, saved)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    skip = recipe.fedclip_args.on_bad_image == "skip"
    encoded = source.images(images, skip, _ignore)
    pixels = METHODS[saved.method].inputs == "pixels"
    inputs = source.pixels(images, skip, _ignore).data if pixels else encoded.data
    task, adapter = _task(saved, source), restore_adapter(saved, recipe.fedclip_args.backbone)
    return TargetAnswers(
        images.subset(encoded.kept),
        _label(task, ZeroShot(), encoded.data.to(device)),
        _label(task, adapter.to(device), inputs.to(device)),
        saved.round,
    )


def _target_images(recipe: Recipe) -> ImageSet | None:
    """List the target's images; those of the built-in data set are drawn where they are not there."""
    settings = recipe.fedclip_args
    root: Path | None = None
    if recipe.data_args.dataset == "miniature" and settings.data_root is None and settings.target_domain:
        root = ensure_miniature(
            recipe.data_args.data_cache_dir,
            settings.images_per_class,
            settings.difficulty,
            domains=[settings.target_domain],
        )
    return target_image_set(recipe, root)


def _source(recipe: Recipe, saved: SavedAdapter) -> FeatureSource:
    settings = recipe.fedclip_args
    workers = settings.encode_workers or max(2, torch.get_num_threads())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = FeatureSource(
        settings.backbone, device, saved.precision, settings.feature_cache_dir, settings.encode_batch_size, workers
    )
    saved.require_backbone(source.fingerprint, source.feature_dim, settings.backbone)
    return source


def _task(saved: SavedAdapter, source: FeatureSource) -> Task:
    return Task(
        method=saved.method,
        backbone=saved.backbone,
        fingerprint=saved.fingerprint,
        precision=saved.precision,
        classes=saved.classes,
        prompt_template=saved.prompt_template,
        text=source.text(saved.classes, saved.prompt_template),
        recipe_digest=saved.recipe_digest,
    )


def _label(task: Task, adapter: Adapter, data: FeatureSet) -> Labelled:
    answers = task.answer(adapter, data)
    return Labelled(answers.predicted.cpu().numpy(), answers.confidence.double().cpu().numpy())


def _ignore(count: int) -> None:
    """Take no notice of progress."""
