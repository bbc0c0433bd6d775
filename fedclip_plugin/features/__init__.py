"""Encode once: image and prompt features of the frozen CLIP, cached on disk."""

from fedclip_plugin.features.feature_set import EncodedImages, FeatureSet, InputSet, PixelSet, SiloFeatures
from fedclip_plugin.features.feature_source import FeatureSource
from fedclip_plugin.features.text_features import TextFeatures
from fedclip_plugin.recipe.prompts import prompts_of

__all__ = [
    "EncodedImages",
    "FeatureSet",
    "FeatureSource",
    "InputSet",
    "PixelSet",
    "SiloFeatures",
    "TextFeatures",
    "prompts_of",
]
