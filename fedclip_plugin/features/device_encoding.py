"""Encode a set of images as a device does, by onnxruntime; nothing is cached."""

from __future__ import annotations

import logging

import numpy as np
import torch

from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.backbone.onnx_encoder import OnnxEncoder
from fedclip_plugin.data import ImageSet, UnreadableImagesError
from fedclip_plugin.errors import DataError
from fedclip_plugin.features.encoding import encode_files
from fedclip_plugin.features.feature_set import EncodedImages, FeatureSet

logger = logging.getLogger(__name__)


def encode_by_device(
    encoder: OnnxEncoder,
    images: ImageSet,
    skip_bad: bool,
    batch_size: int,
    workers: int,
    sample_range: SampleRange | None,
) -> EncodedImages[FeatureSet]:
    """Return the features of a set's readable images; parameters as of `encode_files`.

    Raises
    ------
    DataError
        An image cannot be read, and bad ones are not to be skipped; or none can.
    """
    rows, bad = encode_files(encoder, images.paths(), batch_size, workers, sample_range=sample_range)
    faults = list(bad.values())
    if faults and not skip_bad:
        raise UnreadableImagesError(images.name, len(images), faults)
    if not rows:
        raise DataError(f"{images.name}: none of the {len(images)} images in {images.root} can be read")
    for fault in faults:
        logger.warning("%s: skipped: %s", images.name, fault)
    kept = sorted(rows)
    features = torch.from_numpy(np.stack([rows[index] for index in kept]))
    return EncodedImages(FeatureSet(features, torch.from_numpy(images.labels[kept])), kept, faults, len(kept))
