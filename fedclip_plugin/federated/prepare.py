"""From a recipe to features: what each rank loads before the first round, and nothing of any other rank."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fedclip_plugin.adapters import Frozen, ZeroShot
from fedclip_plugin.data import ImageSet, remarks, silo_image_set, silo_names, target_image_set
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.features import FeatureSet, FeatureSource, SiloFeatures, TextFeatures, prompts_of
from fedclip_plugin.features.text_features import require_distinct
from fedclip_plugin.federated.inputs import Inputs, split
from fedclip_plugin.federated.roll_call import (
    Card,
    agree_on_classes,
    agree_on_precision,
    require_one_task,
    roll_call,
)
from fedclip_plugin.federated.task import Answers, Task
from fedclip_plugin.miniature import DOMAINS, ensure_miniature
from fedclip_plugin.recipe import Recipe

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What a rank holds when training may begin.

    Attributes
    ----------
    task
        What all ranks agree on.
    silos
        Names of all silos, in order.
    splits
        A silo's images as the method takes them; None on the server.
    target
        The target domain's; None on silos and without a target.
    frozen
        What the adapter is built on.
    zero_shot
        How CLIP without an adapter labels ``validation`` and ``test``, or ``target``.
    images
        On the server, how many images each silo has that can be used, in order.
    """

    task: Task
    silos: tuple[str, ...]
    splits: SiloFeatures | None
    target: FeatureSet | None
    frozen: Frozen
    zero_shot: Mapping[str, Answers] = field(default_factory=dict)
    images: tuple[int, ...] = ()


class Preparation:
    """Loads one rank's images, agrees with the others on the task, and encodes.

    Parameters
    ----------
    recipe
        A checked recipe.
    comm
        MPI communicator.
    device
        Where this rank computes.
    progress
        Whether the rank with most to do shows a bar on stderr.
    say
        Called on the server with a line for the console.
    """

    def __init__(self, recipe: Recipe, comm: Any, device: torch.device, progress: bool, say: Say) -> None:
        self._recipe, self._settings = recipe, recipe.fedclip_args
        self._comm, self._rank, self._device = comm, comm.Get_rank(), device
        self._progress, self._say = progress, say
        self._drawn = recipe.data_args.dataset == "miniature" and self._settings.data_root is None
        self._names: tuple[str, ...] = recipe.silo_names() or ()
        self._usable: tuple[int, ...] = ()

    def run(self) -> Prepared:
        """Return what this rank trains or scores with.

        Raises
        ------
        FedClipError
            On every rank, when any rank found something wrong; the message lists all of it.
        """
        images, source, cards = self._list()
        require_one_task(cards)
        precision = agree_on_precision(cards)
        source.agree(precision)
        classes = agree_on_classes(cards, self._settings.classes and tuple(self._settings.classes))
        self._announce(cards)
        inputs, text = self._encode(images, source, classes, cards)
        frozen = Frozen(text, prompts_of(classes, self._settings.prompt_template), source.clip)
        task = Task(
            method=self._settings.method,
            backbone=self._settings.backbone,
            fingerprint=source.fingerprint,
            precision=precision,
            classes=classes,
            prompt_template=self._settings.prompt_template,
            text=text,
            recipe_digest=self._recipe.digest(),
        )
        silos = tuple(card.name for card in cards[1:])
        parts, splits, target = dict[str, FeatureSet](), None, None
        if inputs is not None and self._rank == 0:
            parts, target = {"target": inputs.features}, inputs.taken.to(self._device)
        elif inputs is not None:
            held, splits = self._split(inputs.features), self._split(inputs.taken).to(self._device)
            parts = {"validation": held.validation, "test": held.test}
        zero_shot = {name: task.answer(ZeroShot(), data) for name, data in parts.items()}
        return Prepared(task, silos, splits, target, frozen, zero_shot, self._usable)

    def _list(self) -> tuple[ImageSet | None, FeatureSource, list[Card]]:
        """List this rank's images without opening them, and hear of everybody's."""
        name = "server" if self._rank == 0 else f"rank {self._rank}"
        found: tuple[ImageSet | None, FeatureSource] | None = None
        try:
            images = self._images()
            name = "server" if self._rank == 0 else images.name if images else name
            for line in remarks(images) if images else ():
                _warn(line)
            source = self._source()
            found = images, source
            to_encode = source.count_missing(images, self._views()) if images else 0
            classes, count = (images.classes, len(images)) if images else ((), 0)
            precision = source.settle(images) if images else ""
            card = Card(name, classes, count, to_encode, source.fingerprint, precision, self._recipe.digest())
        except (FedClipError, OSError) as error:  # such as a cache folder that cannot be written
            card = Card(name, error=str(error))
        cards = self._roll_call(card)
        assert found is not None, "roll_call raises when a card has an error"
        return *found, cards

    def _images(self) -> ImageSet | None:
        """List this rank's own images; those of the built-in data set are drawn first."""
        domains = DOMAINS if self._drawn else None
        if self._rank and self._drawn:
            self._names = silo_names(self._recipe, domains=domains)
        own = self._names[self._rank - 1 : self._rank] if self._rank else (self._settings.target_domain,)
        root = self._draw([name for name in own if name]) if self._drawn else None
        if self._rank == 0:
            return target_image_set(self._recipe, root)
        return silo_image_set(self._recipe, self._rank - 1, root, domains=domains)

    def _draw(self, domains: Sequence[str]) -> Path:
        """Draw domains of the built-in data set where they are not drawn yet, and return the root."""
        return ensure_miniature(
            Path(self._recipe.data_args.data_cache_dir),
            self._settings.images_per_class,
            self._settings.difficulty,
            domains=domains,
            progress=self._progress and self._rank == 1,
        )

    def _source(self) -> FeatureSource:
        settings = self._settings
        return FeatureSource(
            settings.backbone,
            self._device,
            settings.precision,
            Path(settings.feature_cache_dir),
            settings.encode_batch_size,
            settings.encode_workers or max(2, torch.get_num_threads()),
        )

    def _encode(
        self, images: ImageSet | None, source: FeatureSource, classes: tuple[str, ...], cards: Sequence[Card]
    ) -> tuple[Inputs | None, TextFeatures]:
        own, counts = cards[self._rank], [card.to_encode for card in cards]
        longest = counts.index(max(counts)) == self._rank and own.to_encode > 0
        found: tuple[Inputs | None, TextFeatures] | None = None
        try:
            text = source.text(classes, self._settings.prompt_template)
            require_distinct(text, classes, self._settings.prompt_template)
            with self._bar(own, longest and self._progress) as bar:
                advance = bar.update if bar is not None else _ignore
                inputs = Inputs.load(self._settings, source, images, self._views(), advance) if images else None
            if self._rank and inputs:
                self._split(inputs.features)
            found = inputs, text
            card = replace(own, images=len(inputs.features) if inputs else 0, to_encode=inputs.faults if inputs else 0)
        except (FedClipError, OSError) as error:
            card = replace(own, error=str(error))
        after = self._roll_call(card)
        self._usable = tuple(card.images for card in after[1:])
        skipped = [f"{card.name} {card.to_encode}" for card in after if card.to_encode]
        if skipped:
            self._say(f"skipped unreadable images: {', '.join(skipped)} (logs/ says which)")
        assert found is not None, "roll_call raises when a card has an error"
        return found

    def _views(self) -> int:
        """Return how many augmented views of each image this rank encodes; the target is only tested on."""
        return self._settings.augmented_views if self._rank else 0

    def _split(self, data: FeatureSet) -> SiloFeatures:
        return split(data, self._recipe.common_args.random_seed)

    def _roll_call(self, card: Card) -> list[Card]:
        return roll_call(self._comm, card, ("server", *self._names), self._settings.start_timeout)

    def _announce(self, cards: Sequence[Card]) -> None:
        told = ", ".join(f"{card.name} {card.images:,}" for card in cards[1:])
        target = f"; target {self._settings.target_domain} {cards[0].images:,}" if cards[0].images else ""
        self._say(f"images: {told}{target}")
        todo = sum(card.to_encode for card in cards)
        self._say(f"encoding {todo:,} images once with {self._settings.backbone}" if todo else "features: all cached")

    def _bar(self, card: Card, shown: bool) -> AbstractContextManager[Any]:
        if not shown:
            return nullcontext()
        bar: AbstractContextManager[Any] = tqdm(total=card.to_encode, desc=f"encode {card.name}", unit="image")
        return bar


@lru_cache(maxsize=64)
def _warn(line: str) -> None:
    """Say a line once, however many federations of a study this rank takes part in."""
    logger.warning("%s", line)


def _ignore(count: int) -> None:
    """Take no notice of progress."""
