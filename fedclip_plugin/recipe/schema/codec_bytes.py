"""The codecs of a recipe, and how many bytes each writes for a number; their arithmetic is with the messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

CodecName = Literal["none", "fp16", "int8"]

CODEC_BYTES: Mapping[CodecName, int] = {"none": 4, "fp16": 2, "int8": 1}
"""Of each number of an update; the scales of ``int8``, one for each row of a tensor, come besides."""
