"""From a recipe to the clients of a simulation: one rank a host encodes, the others map what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fedclip_edge.machine import cores
from fedclip_miniature import DOMAINS, ensure_miniature
from fedclip_plugin.data import ImageSet, Split, common_classes, remarks, split_target, target_image_set
from fedclip_plugin.data.clients import Clients, list_clients
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.features import FeatureSource, InputSet, TextFeatures, prompts_of
from fedclip_plugin.features.encoding import Progress
from fedclip_plugin.features.text_features import require_distinct
from fedclip_plugin.federated.messages.exchange import Layouts
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout, TensorRule
from fedclip_plugin.federated.roles.class_scorer import ClassScorer, EveryClass, class_images
from fedclip_plugin.federated.roles.task import Answers, Task
from fedclip_plugin.federated.simulation.client_data import ClientData
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.startup.preparation import feature_source, say_skipped, task_of, warn_once
from fedclip_plugin.federated.startup.rank_status import agree_on_precision
from fedclip_plugin.federated.startup.start_messages import GoOn, RankStatus, fault_kind
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import AdapterInputs, ZeroShot
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe

_TARGET = -1


@dataclass(frozen=True, kw_only=True)
class Listed(RankStatus):
    """What a rank found listed.

    Attributes
    ----------
    classes, images, to_encode
        Class names, images of all clients and of the target, and how many of them, views included, this rank encodes.
    fingerprint, precision
        Of the backbone, and what this rank would encode in; empty where another rank of its host encodes.
    """

    classes: tuple[str, ...] = ()
    images: tuple[int, int] = (0, 0)
    to_encode: int = 0
    fingerprint: str = ""
    precision: str = ""


@dataclass(frozen=True, kw_only=True)
class Shared(RankStatus):
    """What the first rank of a host has encoded.

    Attributes
    ----------
    files
        Of each image set, the target last, the name of its mapped features; empty on other ranks.
    kept
        Of each, the positions of its readable images.
    """

    files: tuple[str, ...] = ()
    kept: tuple[NDArray[np.int64], ...] = ()


@dataclass(frozen=True)
class Agreed(GoOn):
    """What all ranks work with."""

    classes: tuple[str, ...]
    precision: str


@dataclass(frozen=True)
class Encoded(GoOn):
    """What the first rank of each host has encoded; see :class:`Shared`."""

    files: tuple[str, ...]
    kept: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True)
class SimulationInputs:
    """What a rank of a simulation holds when training may begin."""

    task: Task
    frozen: AdapterInputs
    data: ClientData
    target: InputSet | None
    zero_shot: Answers | None  # of the target
    sizes: tuple[dict[str, int], ...]  # of each client's splits
    class_scorer: ClassScorer | None = None  # with ``class_split: base_new``, on the server


class SimulationPreparation:
    """Lists the images, agrees with the other ranks, and encodes or maps.

    Parameters
    ----------
    group
        This rank and the others.
    progress
        Whether the rank that encodes shows a bar on stderr.
    say
        Takes the server's lines for the console.
    """

    def __init__(
        self, recipe: Recipe, group: WorkerGroup, device: torch.device, progress: bool, say: Callable[[str], None]
    ) -> None:
        self._recipe, self._settings, self._group = recipe, recipe.fedclip_args, group
        self._device, self._progress, self._say = device, progress, say
        self._drawn = recipe.draws_images
        self._splits: list[Split] = []
        self._base_new = self._settings.class_split == "base_new"
        self._to_encode = 0

    def run(self) -> SimulationInputs:
        """Return what this rank works with; a FedClipError on every rank when anything is wrong with any."""
        if self._drawn:
            self._do(RankStatus, self._draw, lambda cards: [GoOn() for _ in cards], GoOn)
        clients, target, source, agreed = self._list()
        source.agree(agreed.precision)
        text, shared = self._encode(clients, target, source, agreed)
        return self._assemble(clients, target, source, agreed, text, shared)

    def _do(
        self,
        empty: Callable[..., Any],
        work: Callable[[], Any],
        judge: Callable[[list[Any]], Sequence[Any]],
        verdict: type[GoOn],
        layouts: Layouts | None = None,
    ) -> Any:
        """Do a piece of work, tell all ranks how it went, and return the verdict."""
        card, fault = empty(), None
        try:
            card = work()
        except (FedClipError, OSError) as error:
            card, fault = empty(fault=fault_kind(error)), error
        return self._group.exchange(card, judge, fault, verdict, layouts)

    def _draw(self) -> RankStatus:
        if self._group.first_here:
            self._root()
        return RankStatus()

    def _root(self) -> Path | None:
        """Return where the miniature is, and draw what is missing of it; None with images of one's own."""
        if not self._drawn:
            return None
        cache, settings = Path(self._recipe.data_args.data_cache_dir), self._settings
        return ensure_miniature(cache, settings.images_per_class, settings.difficulty, progress=self._progress)

    def _list(self) -> tuple[Clients, ImageSet | None, FeatureSource, Agreed]:
        found: list[Any] = []

        def _work() -> Listed:
            root = self._root()
            clients = list_clients(self._recipe, root, DOMAINS if self._drawn else None)
            target, source = target_image_set(self._recipe, root), feature_source(self._recipe, self._device)
            found.extend((clients, target, source))
            sets = [*clients.image_sets, *([target] if target else [])]
            if self._group.rank == 0:
                for line in (line for images in sets for line in remarks(images, self._settings.sample_range)):
                    warn_once(line)
            classes = common_classes({own.name: own.classes for own in sets}, self._settings.classes)
            self._splits = clients.usable_splits(self._recipe)  # what is lacking is said before anything is encoded
            if target is not None:
                split_target(target, self._base_new)
            count = sum(len(own.positions) for own in clients.members), len(target) if target else 0
            first = self._group.first_here
            self._to_encode = self._missing(source, clients, target) if first else 0
            return Listed(
                classes=classes,
                images=count,
                to_encode=self._to_encode,
                fingerprint=source.fingerprint,
                precision=source.settle(sets[0]) if first else "",
            )

        agreed: Agreed = self._do(Listed, _work, self._agree, Agreed)
        return (*found, agreed)

    def _missing(self, source: FeatureSource, clients: Clients, target: ImageSet | None) -> int:
        """Return how many images, views included, are to be encoded; a DataError where the disk has no room for them.

        They lie in the cache once, and with the others of their set in the file that ranks share once more.
        """
        views, todo, shared = self._settings.augmented_views, 0, 0
        for images, own in [*((images, views) for images in clients.image_sets), *([(target, 0)] if target else [])]:
            count = source.count_missing(images, own)
            todo, shared = todo + count, shared + (len(images) * (own + 1) if count else 0)
        source.require_room(todo + shared)
        return todo

    def _agree(self, cards: list[Listed]) -> list[Agreed]:
        first = cards[0]
        for rank, card in enumerate(cards):
            own = (card.fingerprint, card.classes, card.images)
            if own != (first.fingerprint, first.classes, first.images):
                raise FedClipError(
                    f"rank {rank} and rank 0 hold different images or backbones; a simulation needs the same files on "
                    "every host"
                )
        clients, target = first.images
        told = f"; target {self._settings.target_domain} {target:,}" if target else ""
        self._say(f"images: {clients:,} of {self._recipe.train_args.client_num_in_total:,} clients{told}")
        todo = sum(card.to_encode for card in cards)
        self._say(f"encoding {todo:,} images once with {self._settings.backbone}" if todo else "features: all cached")
        precision = agree_on_precision(card.precision for card in cards)
        return [Agreed(first.classes, precision) for _ in cards]

    def _encode(
        self, clients: Clients, target: ImageSet | None, source: FeatureSource, agreed: Agreed
    ) -> tuple[TextFeatures, Encoded]:
        def _work() -> Shared:
            if not self._group.first_here:
                return Shared()
            with torch_threads(cores()), self._bar() as bar:
                text = source.text(agreed.classes, self._settings.prompt_template)
                require_distinct(text, agreed.classes, self._settings.prompt_template)
                made = [self._share(source, images, bar.update) for images in clients.image_sets]
                if target is not None:
                    made.append(self._share(source, target, bar.update, views=0))
            return Shared(files=tuple(name for name, _ in made), kept=tuple(kept for _, kept in made))

        sets = [(images.name, len(images)) for images in clients.image_sets]
        sets += [(f"target {target.name}", len(target))] if target is not None else []
        longest = max(count for _, count in sets)
        kept = [TensorLayout({"kept.*": TensorRule("int64", (range(longest + 1),))})]
        layouts = {Shared: kept, Encoded: kept}
        shared: Encoded = self._do(Shared, _work, partial(self._compare, sets), Encoded, layouts)
        return source.text(agreed.classes, self._settings.prompt_template), shared

    def _compare(self, sets: Sequence[tuple[str, int]], cards: list[Shared]) -> list[Encoded]:
        made = [card for card in cards if card.files]
        if any(card.files != made[0].files for card in made):
            raise FedClipError("hosts encode the same images differently; a simulation needs equal files on every host")
        pairs = zip(sets, made[0].kept, strict=True)
        say_skipped(self._say, ((name, count - len(kept)) for (name, count), kept in pairs))
        return [Encoded(made[0].files, made[0].kept) for _ in cards]

    def _share(
        self, source: FeatureSource, images: ImageSet, advance: Progress, views: int | None = None
    ) -> tuple[str, NDArray[np.int64]]:
        """Encode an image set, write its features where others map them, and return their name and what was read."""
        skip = self._settings.on_bad_image == "skip"
        views = self._settings.augmented_views if views is None else views
        crops = source.pixels(images, skip) if METHODS[self._settings.method].on_pixels else None
        encoded = source.images(images, skip, advance, views, crops)
        return source.mapped.write(encoded.data), np.array(encoded.kept, dtype=np.int64)

    def _assemble(
        self,
        clients: Clients,
        target: ImageSet | None,
        source: FeatureSource,
        agreed: Agreed,
        text: TextFeatures,
        shared: Encoded,
    ) -> SimulationInputs:
        readable = clients.readable(shared.kept[: len(clients.image_sets)])
        pairs = zip(shared.files, readable.image_sets, strict=False)
        features = [source.mapped.read(name, images.labels).to(self._device) for name, images in pairs]
        on_pixels = METHODS[self._settings.method].on_pixels
        taken: Sequence[InputSet] = [self._pixels(source, own) for own in clients.image_sets] if on_pixels else features
        splits = self._splits if readable is clients else readable.usable_splits(self._recipe)
        task = task_of(self._recipe, source, agreed.classes, text)
        data = ClientData(readable, splits, features, taken)
        every = EveryClass(task, agreed.classes, text, source.loader()) if self._base_new else None
        tested, zero_shot, of_target = None, None, None
        if target is not None:
            kept = target.subset(shared.kept[_TARGET])
            found = source.mapped.read(shared.files[_TARGET], kept.labels).to(self._device)
            held = self._pixels(source, target) if on_pixels else found
            rows = split_target(kept, self._base_new)
            seen, tested = (own.subset(rows.test) if every else own for own in (found, held))
            zero_shot = task.answer(ZeroShot(), seen) if self._group.rank == 0 else None
            if every and self._group.rank == 0:
                of_target = class_images(every, (seen, found.subset(rows.new)), (tested, held.subset(rows.new)))
        frozen = AdapterInputs(task.text, prompts_of(task.classes, task.prompt_template), source.clip)
        scorer = ClassScorer(every, data.class_images(every), of_target) if every and self._group.rank == 0 else None
        sizes = tuple(own.sizes() for own in splits)
        return SimulationInputs(task, frozen, data, tested, zero_shot, sizes, scorer)

    def _pixels(self, source: FeatureSource, images: ImageSet) -> InputSet:
        return source.pixels(images, self._settings.on_bad_image == "skip").data.to(self._device)

    def _bar(self) -> Any:
        shown = self._progress and self._to_encode
        return tqdm(total=self._to_encode, desc="encode", unit="image", disable=not shown)
