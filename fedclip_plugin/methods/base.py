"""What every method trains: a module from a silo's inputs to image features, beside class features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.losses import contrastive_loss

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip


@dataclass(frozen=True)
class AdapterInputs:
    """What an adapter is built on.

    Attributes
    ----------
    text
        Text features of the classes in the recipe's prompt, and CLIP's factor on cosine similarities.
    prompts
        One a class, in label order.
    clip
        Loads the frozen CLIP; called only by methods that train through one of its towers.
    """

    text: TextFeatures
    prompts: tuple[str, ...]
    clip: Callable[[], FrozenClip]

    @property
    def feature_dim(self) -> int:
        """Width d of the features."""
        return int(self.text.features.shape[1])


class Adapter(nn.Module):
    """A method: from a silo's inputs to unit-length image features, from class prompts to class features.

    What travels between silos and server are the parameters that ask for gradients, and nothing else
    (:func:`~fedclip_plugin.methods.parameters.parameters_of`).

    Shapes: B images in a batch, C classes, d feature width, S side of the input image in pixels.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return image features of unit length, ``[B, d]``.

        Parameters
        ----------
        inputs
            Features as the backbone gives them, ``[B, d]``; for methods on pixels uint8 images, ``[B, 3, S, S]``.
        """
        raise NotImplementedError

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return class features of unit length, ``[C, d]``.

        Only methods that train the class side override this; what is overridden is saved beside the text features.
        """
        return self.frozen_class_features(text)

    def frozen_class_features(self, text: TextFeatures) -> Tensor:
        """Return those of the frozen CLIP, ``[C, d]``, where and in the type in which the adapter computes."""
        return text.features

    def scale(self, text: TextFeatures) -> float | Tensor:
        """Return the factor on cosine similarities; that of the frozen CLIP unless the method trains it."""
        return text.logit_scale

    def logits(self, inputs: Tensor, text: TextFeatures) -> Tensor:
        """Return class logits ``[B, C]``.

        Parameters
        ----------
        inputs
            As for :meth:`forward`.
        text
            The frozen text features, on the device and in the type of the parameters.
        """
        similarity: Tensor = self(inputs) @ self.class_features(text).T
        return self.scale(text) * similarity

    def loss(self, inputs: Tensor, labels: Tensor, text: TextFeatures) -> Tensor:
        """Return the mean loss of a batch, a scalar: CLIP's symmetric in-batch contrastive loss, as the reference.

        Parameters
        ----------
        inputs, text
            As for :meth:`logits`.
        labels
            Class indices, ``[B]``.
        """
        return contrastive_loss(self(inputs), self.class_features(text), labels, self.scale(text))
