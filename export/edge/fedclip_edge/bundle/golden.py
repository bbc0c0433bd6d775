"""Golden examples inside a manifest: what the graphs answered when they were exported."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.bundle.manifest_schema import IMAGE, require_object
from fedclip_edge.errors import BundleError


@dataclass(frozen=True, eq=False)
class Golden:
    """Known answers of one bundle: K examples, d features, C labels.

    `features`, float32 [K, d], were made by the bundle's preprocess and encoder from `images`: K images as uint8 [H, W,
    3] in a full bundle, none in an update. `logits`, float32 [K, C], were made by its head from `features`.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    images: tuple[NDArray[np.uint8], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under ``golden`` in the manifest."""
        return {
            "features": _encode(self.features, "<f4"),
            "logits": _encode(self.logits, "<f4"),
            "images": [
                {"height": image.shape[0], "width": image.shape[1], "rgb": _encode(image, "u1")}
                for image in self.images
            ],
        }


def parse_golden(golden: dict[str, Any], feature_dim: int, labels: int, full: bool) -> Golden:
    """Read the object under ``golden``, its keys already checked; d and C are what the arrays must fit.

    There must be one image per example in a `full` bundle, none in an update. Refuses with ``malformed``, ``labels``
    (the logits are for another number of labels) or ``not-finite``.
    """
    features = decode(golden["features"], "golden.features")
    if not features or len(features) % (4 * feature_dim):
        raise BundleError(
            "malformed", f"golden.features has {len(features)} bytes, but has to be float32 [K, {feature_dim}]"
        )
    count = len(features) // (4 * feature_dim)
    logits = decode(golden["logits"], "golden.logits")
    if len(logits) != 4 * count * labels:
        raise BundleError(
            "labels",
            f"golden.logits has {len(logits)} bytes, but {count} examples of {labels} labels need "
            f"{4 * count * labels}; export the bundle again",
        )
    images = tuple(_parse_image(image, index) for index, image in enumerate(golden["images"]))
    if len(images) != (count if full else 0):
        raise BundleError(
            "malformed",
            f"golden.images has {len(images)} images; a full bundle has one for each of its {count} "
            "examples, an update none",
        )
    return Golden(_numbers(features, (count, feature_dim)), _numbers(logits, (count, labels)), images)


def _parse_image(value: object, index: int) -> NDArray[np.uint8]:
    where = f"golden.images[{index}]"
    image = require_object(value, IMAGE, where)
    pixels, shape = decode(image["rgb"], f"{where}.rgb"), (image["height"], image["width"], 3)
    if len(pixels) != shape[0] * shape[1] * 3:
        raise BundleError("malformed", f"{where}.rgb has {len(pixels)} bytes, but has to be uint8 {list(shape)}")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _numbers(content: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    array = np.frombuffer(content, "<f4").reshape(shape)
    if not np.isfinite(array).all():
        raise BundleError("not-finite", "the golden examples hold NaN or infinity; export the bundle again")
    return array


def _encode(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode("ascii")


def decode(text: str, where: str) -> bytes:
    """Return the bytes of base64 that is written in the standard form; else ``malformed``, naming `where`."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleError("malformed", f"{where} is not base64 ({error})") from error
    if base64.b64encode(content).decode("ascii") != text:
        raise BundleError("malformed", f"{where} is not written in the standard form of base64")
    return content
