"""Encode once: image and prompt features of the frozen CLIP, cached on disk."""

from fedclip_plugin.features.feature_set import FeatureSet, SiloFeatures
from fedclip_plugin.features.source import EncodedImages, FeatureSource, TextFeatures

__all__ = ["EncodedImages", "FeatureSet", "FeatureSource", "SiloFeatures", "TextFeatures"]
