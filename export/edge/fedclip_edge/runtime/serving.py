"""The three graphs of a bundle in onnxruntime: what one prediction uses from its start to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.bundle import Bundle
from fedclip_edge.errors import BundleError
from fedclip_edge.images import Pixels
from fedclip_edge.runtime.sessions import SessionMaker

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = NDArray[np.float32]

CHUNK: int = 32
"""Images that are encoded at once: more would cost memory and no longer gain speed."""


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """From images to their features, by onnxruntime.

    Attributes
    ----------
    preprocess, encoder
        onnxruntime sessions; each may run in several threads at once.
    """

    preprocess: InferenceSession
    encoder: InferenceSession

    def features(self, images: Iterable[Pixels]) -> Array:
        """Return image features, float32 [B, d], not normalised; memory is bounded by `CHUNK`, not by B.

        Parameters
        ----------
        images
            RGB pixels, each uint8 [H, W, 3] of its own size; read one at a time.
        """
        parts = [self.encode(np.concatenate(chunk)) for chunk in _chunks(map(self.pixel_values, images))]
        return np.concatenate(parts) if parts else np.empty((0, self.feature_dim), np.float32)

    @property
    def feature_dim(self) -> int:
        """Width d of the features."""
        return int(self.encoder.get_outputs()[0].shape[1])

    def pixel_values(self, image: Pixels) -> Array:
        """Return one image resized, cropped and normalised, float32 [1, 3, S, S]."""
        result: Array = self.preprocess.run(["pixel_values"], {"image": image})[0]
        return result

    def encode(self, pixel_values: Array) -> Array:
        """Return the features, float32 [B, d], of pixel values [B, 3, S, S]."""
        result: Array = self.encoder.run(["image_features"], {"pixel_values": pixel_values})[0]
        return result


@dataclass(frozen=True, eq=False)
class Serving(ImageEncoder):
    """A verified bundle and its sessions; never changed, only replaced as a whole.

    Attributes
    ----------
    head
        As the other sessions.
    bundle
        What was verified: manifest, key, the head's bytes.
    """

    head: InferenceSession
    bundle: Bundle

    def score(self, features: Array) -> tuple[Array, Array]:
        """Return logits and probabilities, both float32 [B, C], of features [B, d]."""
        return score(self.head, features)


def score(head: InferenceSession, features: Array) -> tuple[Array, Array]:
    """Return the logits and probabilities, both float32 [B, C], that a head gives for features [B, d]."""
    logits, probabilities = head.run(["logits", "probabilities"], {"image_features": features})
    return logits, probabilities


def build_serving(bundle: Bundle, maker: SessionMaker, running: Serving | None = None) -> Serving:
    """Return a bundle's sessions, on the encoder that runs already where it is the same.

    Parameters
    ----------
    bundle
        A verified full bundle, or a verified update.
    maker
        How sessions are made here.
    running
        Whose preprocessing and encoder may go on.

    Raises
    ------
    BundleError
        ``graph``: onnxruntime cannot load a part; ``incomplete``: an update whose encoder does not run; ``hash``:
        the encoder is another file than was checked.
    ProviderError
        onnxruntime fell back from the chosen provider.
    """
    head = maker.head(bundle.head)
    if running is not None and same_base(bundle, running.bundle):
        return Serving(running.preprocess, running.encoder, head, bundle)
    if bundle.encoder is None or bundle.preprocess is None:
        raise BundleError("incomplete", f"{bundle.folder} is an update: give the full bundle that it goes with")
    encoder = maker.encoder(bundle.encoder)
    bundle.require_unchanged()  # onnxruntime read by path what was hashed before: was it the same file?
    return Serving(maker.preprocess(bundle.preprocess), encoder, head, bundle)


def same_base(one: Bundle, other: Bundle) -> bool:
    """Tell whether two bundles go with the same preprocessing and encoder, by their hashes."""
    first, second = one.installed(), other.installed()
    return (first.encoder, first.preprocess) == (second.encoder, second.preprocess)


def _chunks(values: Iterator[Array]) -> Iterator[list[Array]]:
    while chunk := list(islice(values, CHUNK)):
        yield chunk
