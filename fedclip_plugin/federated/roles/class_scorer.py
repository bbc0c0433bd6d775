"""Base-to-new classes: an adapter on the classes that it trained on, on the others, and on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedclip_plugin.errors import FederationError, MethodError
from fedclip_plugin.features import InputSet, TextFeatures, prompts_of
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import Adapter, AdapterInputs, ZeroShot, load_parameters
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.class_split_record import ClassCounts, ClassScores, ClassSplitRecord

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip

Arrays = Mapping[str, NDArray[Any]]
"""An adapter's parameters by name."""


@dataclass(frozen=True)
class EveryClass:
    """All classes of a run, of which its task has the first ones alone: the base classes."""

    task: Task
    classes: tuple[str, ...]  # all of them, in label order
    text: TextFeatures  # theirs
    clip: Callable[[], FrozenClip]  # loads the frozen CLIP, for methods that train through its text tower

    def counter(self, adapter: Adapter) -> Callable[[InputSet, InputSet], ClassCounts]:
        """Return what counts how many images of base and of new classes an adapter of the task labels rightly.

        A MethodError when the method does not answer for classes that it was not trained on.
        """
        place, first = _place(adapter), len(self.task.classes)
        of_new, of_all = self.answering(adapter, first), self.answering(adapter, 0)

        def _counts(base: InputSet, new: InputSet) -> ClassCounts:
            if place is not None:  # a simulation's server averages on the CPU, wherever the images are
                base, new = base.to(place), new.to(place)
            return ClassCounts(
                base_images=len(base),
                new_images=len(new),
                base=_right(self.task, adapter, base),
                new=_right(*of_new, new, first),
                all=_right(*of_all, base) + _right(*of_all, new),
            )

        return _counts

    def answering(self, adapter: Adapter, first: int) -> tuple[Task, Adapter]:
        """Return task and adapter for the classes from the one at ``first`` on; errors as :meth:`counter`."""
        text = TextFeatures(self.text.features[first:], self.text.logit_scale)
        task = replace(self.task, classes=self.classes[first:], text=text)
        frozen = AdapterInputs(text, prompts_of(task.classes, task.prompt_template), self.clip)
        try:
            made = type(adapter).on_classes(self.task.saved(0, adapter, {}), frozen)
        except ValueError as error:
            raise MethodError(
                f"method {self.task.method} does not answer for classes that it was not trained on ({error}), as "
                "fedclip_args.class_split: base_new asks for: leave that out, or take another method"
            ) from error
        return task, made.to(_place(adapter))


@dataclass(frozen=True)
class ClassImages:
    """Test images as the method takes them, of base and of new classes, and zero-shot CLIP's answers for them."""

    base: InputSet
    new: InputSet
    zero_shot: ClassCounts


@dataclass(frozen=True)
class ClassScorer:
    """What a rank scores after the last round.

    Attributes
    ----------
    sources
        By silo, its images: a silo's own; on the server of a simulation those of every source, in parts; else none.
    target
        The target domain's, on a server with one.
    """

    every: EveryClass
    sources: Mapping[str, tuple[ClassImages, ...]]
    target: ClassImages | None = None

    def of_sources(self, model: Adapter, adapter: Arrays | None) -> dict[str, ClassCounts]:
        """Return the counts of each source, by parameters that ``model`` takes; None stands for zero-shot CLIP."""
        counts = self._counter(model, adapter)
        return {
            name: sum((counts(own) for own in more), counts(first)) for name, (first, *more) in self.sources.items()
        }

    def of_target(self, model: Adapter, adapter: Arrays | None) -> ClassCounts | None:
        """Return the counts of the target domain; None without one."""
        return None if self.target is None else self._counter(model, adapter)(self.target)

    def _counter(self, model: Adapter, adapter: Arrays | None) -> Callable[[ClassImages], ClassCounts]:
        if adapter is None:
            return lambda images: images.zero_shot
        load_parameters(model, {name: torch.from_numpy(np.array(value)) for name, value in adapter.items()})
        counts = self.every.counter(model)
        return lambda images: counts(images.base, images.new)


def class_images(every: EveryClass, seen: tuple[InputSet, InputSet], taken: tuple[InputSet, InputSet]) -> ClassImages:
    """Return images of base and of new classes with zero-shot CLIP's answers.

    Parameters
    ----------
    seen, taken
        Features of the backbone, and what the method takes in.
    """
    return ClassImages(*taken, every.counter(ZeroShot())(*seen))


def score_classes(
    folder: RunFolder, scorer: ClassScorer, model: Adapter, ask: Callable[[Arrays | None], Mapping[str, ClassCounts]]
) -> None:
    """Score zero-shot CLIP and the best and the last adapter of a finished run, on the server.

    Parameters
    ----------
    model
        Takes the adapters' parameters.
    ask
        From an adapter, or None for zero-shot CLIP, to the counts of every silo.

    Raises
    ------
    RunFolderError
        When the run folder cannot be read or written.
    """

    def _scores(number: int | None) -> ClassScores:
        adapter = None if number is None else dict(folder.load_round(number).tensors)
        return ClassScores(round=number, sources=dict(ask(adapter)), target=scorer.of_target(model, adapter))

    last = folder.rounds()[-1]
    numbers = dict.fromkeys((last.best_round or last.round, last.round))
    count = len(scorer.every.task.classes)
    folder.save_class_split(
        ClassSplitRecord(
            base=scorer.every.classes[:count],
            new=scorer.every.classes[count:],
            zero_shot=_scores(None),
            adapters=tuple(_scores(number) for number in numbers),
        )
    )


def checked_counts(answer: Any) -> ClassCounts:
    """Return a silo's answer when it is one; a FederationError when not."""
    try:
        if type(answer) is not ClassCounts:
            raise ValueError(f"it is {type(answer).__name__}")
        return ClassCounts.model_validate(vars(answer))
    except ValueError as error:
        raise FederationError(f"a silo's answer for base and new classes is none: {error}") from error


def _place(adapter: Adapter) -> torch.device | None:
    """Return the device of an adapter's parameters; None without any."""
    return next((parameter.device for parameter in adapter.parameters()), None)


def _right(task: Task, adapter: Adapter, images: InputSet, first: int = 0) -> int:
    """Return how many images a task's labels are right for; its first class is the one of label ``first``."""
    return int((task.labels(adapter, images) + first == images.labels).sum()) if len(images) else 0
