"""What every method trains: a module from a silo's inputs to image features, beside class features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from fedclip_plugin.errors import MethodError
from fedclip_plugin.features import TextFeatures, prompts_of
from fedclip_plugin.methods.losses import contrastive_loss, scores
from fedclip_plugin.methods.parameters import load_parameters, require_parameters, to_tensors
from fedclip_plugin.runs import SavedAdapter

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip


@dataclass(frozen=True)
class AdapterInputs:
    """What an adapter is built on."""

    text: TextFeatures  # of the classes in the recipe's prompt
    prompts: tuple[str, ...]  # one a class, in label order
    clip: Callable[[], FrozenClip]  # loads the frozen CLIP; only for methods that train through one of its towers

    @property
    def feature_dim(self) -> int:
        """Width d of the features."""
        return int(self.text.features.shape[1])


class HeadGraph(Protocol):
    """The ONNX graph that a method adds its nodes to; tensors go by their names in it."""

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node of ONNX's standard domain and return the name of its one output."""

    def parameter(self, name: str, *shape: int) -> str:
        """Return one of the adapter's parameters, by the name that the module gives it."""

    def floats(self, values: Sequence[float], shape: tuple[int, ...]) -> str:
        """Return a float32 constant."""


class Adapter(nn.Module, ABC):
    """A method: from a silo's inputs to unit-length image features, from class prompts to class features.

    What travels between silos and server are the parameters that ask for gradients, and nothing else
    (:func:`~fedclip_plugin.methods.parameters.parameters_of`).

    Shapes: B images in a batch, C classes, d feature width, S side of the input image in pixels.

    Parameters
    ----------
    frozen
        What it is built on.
    generator
        Source of the initial weights, on the CPU.
    dtype
        Of the parameters; float32 in training, float64 in exactness tests.

    Attributes
    ----------
    trains_classes
        Whether :meth:`class_features` are trained; they are saved beside the text features then.
    batches_clients
        Whether a simulation on a GPU may train many clients of this method at once, by :func:`torch.func.vmap` over
        :meth:`loss`, which then takes ``padded``.
    """

    trains_classes: ClassVar[bool] = False
    batches_clients: ClassVar[bool] = False

    def __init__(
        self,
        frozen: AdapterInputs | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()

    @classmethod
    def create(cls, frozen: AdapterInputs, generator: torch.Generator, dtype: torch.dtype) -> Self:
        """Return a new adapter; where building one takes more than the constructor, a method overrides this."""
        return cls(frozen, generator, dtype)

    @classmethod
    def restore(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter of this method; a ValueError when a tensor's name or shape is not the method's."""
        tensors, generator = to_tensors(saved.tensors), torch.Generator()
        with torch.device("meta"):  # compared before memory is taken for what a stranger's header says
            require_parameters(cls.create(frozen, generator, torch.float32), tensors)
        adapter = cls.create(frozen, generator, torch.float32)
        load_parameters(adapter, tensors)
        return adapter

    @classmethod
    def on_classes(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter for classes that it was not trained on, those of ``frozen``, by the same parameters.

        A ValueError when they do not fit. Methods whose parameters belong to single classes override this.
        """
        adapter = cls.create(frozen, torch.Generator(), torch.float32)
        load_parameters(adapter, to_tensors(saved.tensors))
        return adapter

    @staticmethod
    def interpolate(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return parameters between the start, at share 0, and what was trained, at 1 (WiSE-FT, arXiv 2109.01903)."""
        return {name: torch.lerp(start[name], own, share) for name, own in trained.items()}

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Return image features of unit length, ``[B, d]``.

        They are made of features as the backbone gives them, ``[B, d]``; by methods on pixels of uint8 ``[B, 3, S,
        S]``.
        """

    @staticmethod
    def head(graph: HeadGraph, features: str, width: int) -> str:
        """Add what :meth:`forward` does to image features, before they are normalised, to a device's ONNX graph.

        The features, and the result whose name is returned, are ``[B, d]``. A method on features without a head cannot
        be exported.
        """
        raise MethodError("this method says by no head() how it becomes an ONNX graph")

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return class features, ``[C, d]``; of unit length, unless their lengths are what a method finds.

        Only methods that train the class side override this; they set :attr:`trains_classes` too.
        """
        return self.frozen_class_features(text)

    def frozen_class_features(self, text: TextFeatures) -> Tensor:
        """Return those of the frozen CLIP, ``[C, d]``, where and in the type in which the adapter computes."""
        return text.features

    def class_biases(self, text: TextFeatures) -> Tensor | None:
        """Return what is added to the products with the class features, ``[C]``; None where nothing is."""
        return None

    def scale(self, text: TextFeatures) -> float | Tensor:
        """Return the factor on cosine similarities; that of the frozen CLIP unless the method trains it."""
        return text.logit_scale

    def logits(self, inputs: Tensor, text: TextFeatures) -> Tensor:
        """Return class logits ``[B, C]``; ``text`` is on the device and in the type of the parameters."""
        return scores(self(inputs), self.class_features(text), self.scale(text), self.class_biases(text))

    def loss(self, inputs: Tensor, labels: Tensor, text: TextFeatures, padded: bool = False) -> Tensor:
        """Return the mean loss of a batch, a scalar, from class indices ``[B]``.

        This one is CLIP's symmetric in-batch contrastive loss, as the reference's. In a ``padded`` batch rows of label
        :data:`~fedclip_plugin.methods.losses.PADDING` count for nothing; only methods with :attr:`batches_clients` are
        given one.
        """
        return contrastive_loss(self(inputs), self.class_features(text), labels, self.scale(text), padded)


@torch.no_grad()
def keep_known_rows(rows: Tensor, saved: SavedAdapter, name: str, frozen: AdapterInputs) -> None:
    """Copy into ``rows``, one a class of ``frozen``, those of parameter ``name`` for the classes that ``saved`` has."""
    known = dict(zip(prompts_of(saved.classes, saved.prompt_template), torch.tensor(saved.tensors[name]), strict=True))
    for row, prompt in zip(rows, frozen.prompts, strict=True):
        row.copy_(known.get(prompt, row))
