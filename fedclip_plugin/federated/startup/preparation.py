"""From a recipe to features: what each rank loads before the first round, and nothing of any other rank."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from fedclip_miniature import DOMAINS, ensure_miniature
from fedclip_plugin.backbone import BUILT_IN
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.data import ImageSet, Split, remarks, silo_image_set, silo_names, split_target, target_image_set
from fedclip_plugin.data.clients import silo_split
from fedclip_plugin.data.splits import base_count
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.features import FeatureSet, FeatureSource, InputSet, SiloFeatures, TextFeatures, prompts_of
from fedclip_plugin.features.encoding import Progress, no_progress
from fedclip_plugin.features.text_features import require_distinct
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.observer import SKIPPED
from fedclip_plugin.federated.privacy.silo_privacy import is_spent, require_budget
from fedclip_plugin.federated.rank_output import confined
from fedclip_plugin.federated.roles.class_scorer import ClassScorer, EveryClass, class_images
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import Answers, Task
from fedclip_plugin.federated.secure_sums.keys_check import require_keys
from fedclip_plugin.federated.startup.rank_status import (
    StatusExchange,
    agree_on_classes,
    agree_on_precision,
    exchange_here,
    exchange_status,
    go_on,
    require_one_backbone,
    require_own_names,
)
from fedclip_plugin.federated.startup.silo_egress import policy_in_force
from fedclip_plugin.federated.startup.start_messages import Agreed, Encoded, GoOn, Ready, fault_kind
from fedclip_plugin.methods import AdapterInputs, ZeroShot
from fedclip_plugin.methods.registry import METHODS, require_family
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
T = TypeVar("T")
Steps = Generator[StatusExchange, Any, T]
"""What a rank does until it has its result; in between it hands in cards and hears verdicts."""


@dataclass(frozen=True)
class Prepared:
    """What a rank holds when training may begin."""

    task: Task  # what all ranks agree on
    name: str  # this rank's: its silo, or ``server``
    silos: tuple[str, ...]  # all silos that are there, in order; a silo knows no other one: empty
    members: Members  # which of the recipe's silos these are
    splits: SiloFeatures | None  # a silo's images as the method takes them; None on the server
    target: InputSet | None  # the target domain's; None on silos and without a target
    frozen: AdapterInputs  # what the adapter is built on
    zero_shot: Mapping[str, Answers] = field(default_factory=dict)  # of ``validation`` and ``test``, or ``target``
    sizes: tuple[Mapping[str, int], ...] = ()  # on the server, how many images each silo's splits have
    class_scorer: ClassScorer | None = None  # with ``class_split: base_new``
    policies: Mapping[str, str] = field(default_factory=dict)  # on the server, SHA-256 of each silo's policy, or empty
    spent: frozenset[int] = frozenset()  # on the server, places of the silos whose images' privacy is spent


@dataclass(frozen=True)
class Inputs:
    """One rank's images."""

    features: FeatureSet  # of the backbone, which zero-shot CLIP is scored on
    taken: InputSet  # what the method takes in: the same, perhaps with augmented views, or pixels
    parts: Split  # of a silo's images; the server's are all tested on
    faults: int  # how many images cannot be read

    def tested(self) -> tuple[FeatureSet, InputSet]:
        """Return the images of the test, as features and as the method takes them: a target's are mostly all."""
        if len(self.parts.test) == len(self.features):
            return self.features, self.taken
        return self.features.subset(self.parts.test), self.taken.subset(self.parts.test)


class Preparation:
    """Loads one rank's images, agrees with the others on the task, and encodes.

    With ``progress`` the rank with most to do shows a bar on stderr; ``say`` takes the server's lines for the console.
    ``source`` is what encodes, where ranks of one process share it; ``folder`` has what silos spent of privacy;
    ``members`` are the silos that take part, without it all.
    """

    def __init__(
        self,
        recipe: Recipe,
        comm: Any,
        device: torch.device,
        progress: bool,
        say: Say,
        source: FeatureSource | None = None,
        folder: RunFolder | None = None,
        members: Members | None = None,
    ) -> None:
        self._recipe, self._settings, self._members = recipe, recipe.fedclip_args, members or Members.of(recipe)
        self._comm, self._rank, self._device = comm, comm.Get_rank(), device
        self._progress, self._say, self._shared, self._folder = progress, say, source, folder
        self._drawn = recipe.draws_images
        named = recipe.silo_names()
        known = ("server", *(self._members.of_those_there(named) if named else ()))
        self._names = [*known, *(f"rank {rank}" for rank in range(len(known), comm.Get_size()))]
        self._sizes: tuple[Mapping[str, int], ...] = ()
        self._policies: dict[str, str] = {}
        self._spent: frozenset[int] = frozenset()

    def run(self) -> Prepared:
        """Return what this rank trains or scores with.

        When any rank found something wrong, every rank raises a FedClipError; the server's message lists all of it.
        """
        steps, limit = self.steps(), self._settings.start_timeout
        try:
            asked = next(steps)
            while True:
                verdict = exchange_status(self._comm, asked.card, self._names, limit, *asked[1:])
                asked = steps.send(verdict)
        except StopIteration as end:
            prepared: Prepared = end.value
            return prepared

    def steps(self) -> Steps[Prepared]:
        """Do the same step by step; whoever drives it exchanges the cards of all ranks in between."""
        images, source, agreed = yield from self._list()
        source.agree(agreed.precision)
        inputs, text = yield from self._encode(images, source, agreed)
        task = task_of(self._recipe, source, agreed.classes, text)
        frozen = AdapterInputs(task.text, prompts_of(task.classes, task.prompt_template), source.clip)
        parts, splits, target = dict[str, InputSet](), None, None
        if inputs is not None and self._rank == 0:
            features, taken = inputs.tested()
            parts, target = {"target": features}, taken.to(self._device)
        elif inputs is not None:
            held, splits = split(inputs.features, inputs.parts), split(inputs.taken, inputs.parts).to(self._device)
            parts = {"validation": held.validation, "test": held.test}
        zero_shot = {name: task.answer(ZeroShot(), data) for name, data in parts.items()}
        silos = () if self._rank else tuple(self._names[1:])
        name, scorer = self._names[self._rank], None
        if self._settings.class_split == "base_new":
            scorer = self._scorer(EveryClass(task, agreed.classes, text, source.loader()), inputs)
        told = self._sizes, scorer, self._policies, self._spent
        return Prepared(task, name, silos, self._members, splits, target, frozen, zero_shot, *told)

    def _scorer(self, every: EveryClass, inputs: Inputs | None) -> ClassScorer:
        """Return what scores this rank's test images of base and of new classes after the last round."""
        if inputs is None:
            return ClassScorer(every, {})
        rows = inputs.parts.test, inputs.parts.new
        features, taken = inputs.features, inputs.taken.without_views()
        seen, held = ((data.subset(rows[0]), data.subset(rows[1])) for data in (features, taken))
        own = class_images(every, seen, (held[0].to(self._device), held[1].to(self._device)))
        return ClassScorer(every, {self._names[self._rank]: (own,)}) if self._rank else ClassScorer(every, {}, own)

    def _list(self) -> Steps[tuple[ImageSet | None, FeatureSource, Agreed]]:
        """List this rank's images without opening them, and hear what is agreed on."""
        found: tuple[ImageSet | None, FeatureSource] | None = None
        card, fault = Ready(), None
        try:
            images = self._images()
            if images and (self._settings.shots is not None or self._settings.class_split != "all"):
                self._split(images)  # what is lacking is said before anything is encoded
            for line in remarks(images, self._settings.sample_range) if images else ():
                warn_once(line)
            if self._rank and images:
                self._names[self._rank] = images.name
                require_keys(self._recipe, images.name)
            source = self._source()
            found = images, source
            to_encode = source.count_missing(images, self._views()) if images else 0
            source.require_room(to_encode)
            card = Ready(
                name=self._names[self._rank],
                classes=images.classes if images else (),
                images=len(images) if images else 0,
                to_encode=to_encode,
                fingerprint=source.fingerprint,
                precision=source.settle(images) if images else "",
                policy=policy_in_force(),
                spent=self._is_spent(),
            )
        except (FedClipError, OSError) as error:  # such as a cache folder that cannot be written
            card, fault = Ready(name=self._names[self._rank], fault=fault_kind(error)), error
        agreed = yield StatusExchange(card, self._agree, fault, Agreed)
        assert found is not None, "nobody goes on when a card has a fault"
        return *found, agreed

    def _is_spent(self) -> bool:
        """Return whether this rank is a silo that trains no more, by what is on its disk."""
        if self._folder is None or not self._rank:
            return False
        folder, settings = self._folder.personal(self._names[self._rank]), TrainingSettings.of(self._recipe)
        solved, silos = METHODS[self._settings.method].sums is not None, self._recipe.train_args.client_num_in_total
        return is_spent(settings, folder, self._members.index(self._rank), silos, solved)

    def _agree(self, cards: list[Ready]) -> list[Agreed]:
        """On the server: from what the silos hold to what the federation is about."""
        require_own_names(cards)
        self._names[1:] = [card.name for card in cards[1:]]
        require_one_backbone(cards)
        precision = agree_on_precision(card.precision for card in cards)
        classes = agree_on_classes(cards, self._settings.classes and tuple(self._settings.classes))
        self._policies = {card.name: card.policy for card in cards[1:]}
        self._spent = frozenset(place for place, card in enumerate(cards[1:]) if card.spent)
        self._announce(cards)
        counts = [card.to_encode for card in cards]
        longest = counts.index(max(counts)) if any(counts) else None
        alone = self._shared is not None  # ranks of one process encode one after the other
        return [Agreed(classes, precision, self._progress and (alone or rank == longest)) for rank in range(len(cards))]

    def _images(self) -> ImageSet | None:
        """List this rank's own images; those of the built-in data set are drawn first."""
        domains = DOMAINS if self._drawn else None
        if self._rank and self._drawn:
            self._names[1:] = self._members.of_those_there(silo_names(self._recipe, domains=domains))
        own = self._names[self._rank] if self._rank else self._settings.target_domain
        root = self._draw([own] if own else []) if self._drawn else None
        if self._rank == 0:
            return target_image_set(self._recipe, root)
        return silo_image_set(self._recipe, self._members.index(self._rank), root, domains=domains)

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
        return self._shared or feature_source(self._recipe, self._device)

    def _encode(
        self, images: ImageSet | None, source: FeatureSource, agreed: Agreed
    ) -> Steps[tuple[Inputs | None, TextFeatures]]:
        found: tuple[Inputs | None, TextFeatures] | None = None
        card, fault = Encoded(), None
        try:
            text = source.text(agreed.classes, self._settings.prompt_template)
            require_distinct(text, agreed.classes, self._settings.prompt_template)
            to_encode = source.count_missing(images, self._views()) if images and agreed.bar else 0
            with self._bar(to_encode) as bar:
                advance = bar.update if bar is not None else no_progress
                inputs = self._inputs(source, images, advance) if images else None
            found = inputs, text
            card = _card(inputs) if inputs else Encoded()
        except (FedClipError, OSError) as error:
            card, fault = Encoded(fault=fault_kind(error)), error
        yield StatusExchange(card, self._take_counts, fault)
        assert found is not None, "nobody goes on when a card has a fault"
        return found

    def _inputs(self, source: FeatureSource, images: ImageSet, advance: Progress) -> Inputs:
        """Encode and decode what the caches lack."""
        skip, views = self._settings.on_bad_image == "skip", self._views()
        crops = source.pixels(images, skip) if METHODS[self._settings.method].on_pixels else None
        encoded = source.images(images, skip, advance, views, crops)
        taken: InputSet = crops.data if crops else encoded.data
        parts = self._split(images.subset(encoded.kept))
        if self._rank:
            settings, solved = TrainingSettings.of(self._recipe), METHODS[self._settings.method].sums is not None
            index, silos = self._members.index(self._rank), self._recipe.train_args.client_num_in_total
            require_budget(settings, len(parts.train), index, silos, solved)
        return Inputs(encoded.data.without_views(), taken, parts, len(encoded.faults))

    def _take_counts(self, cards: list[Encoded]) -> list[GoOn]:
        self._sizes = tuple(card.sizes() for card in cards[1:])
        names = [f"target {self._settings.target_domain}", *self._names[1:]]
        say_skipped(self._say, ((name, card.skipped) for name, card in zip(names, cards, strict=True)))
        return go_on(cards)

    def _views(self) -> int:
        """Return how many augmented views of each image this rank encodes; the target is only tested on."""
        return self._settings.augmented_views if self._rank else 0

    def _split(self, images: ImageSet) -> Split:
        """Split a silo's readable images; all of the server's are there to be tested on."""
        if self._rank:
            return silo_split(images, self._recipe)
        return split_target(images, self._settings.class_split == "base_new")

    def _announce(self, cards: Sequence[Ready]) -> None:
        told = ", ".join(f"{card.name} {card.images:,}" for card in cards[1:])
        target = f"; target {self._settings.target_domain} {cards[0].images:,}" if cards[0].images else ""
        self._say(f"images: {told}{target}")
        if any(self._policies.values()):
            found = ", ".join(f"{name} {digest[:12] or 'none'}" for name, digest in self._policies.items())
            self._say(f"silo policies: {found}")
        if self._settings.backbone == BUILT_IN and not self._drawn:
            self._say("note: clip-tiny knows drawings, not photographs; name a CLIP in fedclip_args.backbone for those")
        todo = sum(card.to_encode for card in cards)
        self._say(f"encoding {todo:,} images once with {self._settings.backbone}" if todo else "features: all cached")

    def _bar(self, to_encode: int) -> AbstractContextManager[Any]:
        if not to_encode or confined():
            return nullcontext()
        name = self._names[self._rank]
        bar: AbstractContextManager[Any] = tqdm(total=to_encode, desc=f"encode {name}", unit="image")
        return bar


def prepare_here(preparations: Sequence[Preparation]) -> list[Prepared]:
    """Prepare all ranks of one process, the server first: each step of one after that of the other.

    Raises
    ------
    FedClipError
        What is wrong with a rank, in full; where there are several faults, a list of them.
    """
    steps = [preparation.steps() for preparation in preparations]
    asked = [next(step) for step in steps]
    done: list[Prepared] = []
    while not done:
        verdicts, asked = exchange_here(asked), []
        for step, verdict in zip(steps, verdicts, strict=True):
            try:
                asked.append(step.send(verdict))
            except StopIteration as end:
                done.append(end.value)
    return done


def feature_source(recipe: Recipe, device: torch.device) -> FeatureSource:
    """Return what encodes as a recipe asks for; a MethodError when backbone and method do not go together."""
    settings = recipe.fedclip_args
    source = FeatureSource(
        settings.backbone,
        device,
        settings.precision,
        Path(settings.feature_cache_dir),
        settings.encode_batch_size or 0,
        settings.encode_workers or 0,
        sample_range=settings.sample_range,
    )
    require_family(settings.method, read_clip_config(source.folder), settings.backbone)
    return source


def task_of(recipe: Recipe, source: FeatureSource, classes: tuple[str, ...], text: TextFeatures) -> Task:
    """Return what all ranks agree on, when the source has heard the precision; with ``base_new`` of base classes."""
    settings = recipe.fedclip_args
    count = base_count(classes) if settings.class_split == "base_new" else len(classes)
    assert source.precision is not None, "agreed on before anything is encoded"
    return Task(
        method=settings.method,
        backbone=settings.backbone,
        fingerprint=source.fingerprint,
        precision=source.precision,
        classes=classes[:count],
        prompt_template=settings.prompt_template,
        text=TextFeatures(text.features[:count], text.logit_scale),
        recipe_digest=recipe.digest(),
        sample_range=settings.sample_range,
        start=settings.start,
    )


def split(data: InputSet, parts: Split) -> SiloFeatures:
    """Return a silo's splits; only what is trained on keeps augmented views."""
    plain = data.without_views()
    return SiloFeatures(data.subset(parts.train), plain.subset(parts.validation), plain.subset(parts.test), parts.test)


def say_skipped(say: Say, counts: Iterable[tuple[str, int]]) -> None:
    """Say how many images of each name were left out, as they cannot be read; nothing where there are none."""
    told = [f"{name} {count:,}" for name, count in counts if count]
    if told:
        say(f"{SKIPPED}: {', '.join(told)} (logs/ says which)")


def _card(inputs: Inputs) -> Encoded:
    parts = inputs.parts
    return Encoded(
        train=len(parts.train), validation=len(parts.validation), test=len(parts.test), skipped=inputs.faults
    )


@lru_cache(maxsize=64)
def warn_once(line: str) -> None:
    """Say a line once, however many federations of a study this rank takes part in."""
    logger.warning("%s", line)
