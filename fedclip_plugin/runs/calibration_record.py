"""``calibration.json`` of a run folder: how the best and the last adapter were calibrated, and what that is worth."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fedclip_edge.calibration import Calibration
from fedclip_edge.reliability import BINS, Reliability
from fedclip_plugin.runs.round_record import Number, Share

_Bins = Field(min_length=BINS, max_length=BINS)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class ConfidenceBins(_Part):
    """Sums over the images of each of 15 bins of the confidence (:func:`fedclip_edge.reliability.reliability`).

    Attributes
    ----------
    counts, right, confidence
        Images, right answers, and the sum of the confidences.
    """

    counts: Annotated[tuple[Number, ...], _Bins]
    right: Annotated[tuple[Number, ...], _Bins]
    confidence: Annotated[tuple[float, ...], _Bins]

    @cached_property
    def reliability(self) -> Reliability:
        """How confidence and accuracy agree."""
        return Reliability.of_sums(*(np.asarray(part) for part in (self.counts, self.right, self.confidence)))


class CalibratedImages(_Part):
    """What a calibration does to answers for images that it was not made with.

    Attributes
    ----------
    images
        How many there are.
    before, after
        Their answers' confidences, at temperature 1 and at the fitted one.
    unknown
        Share of them that is below the threshold.
    chance
        The calibration error after, to be expected if it were perfect: few images have one by chance. None in files of
        earlier versions.
    """

    images: Number
    before: ConfidenceBins
    after: ConfidenceBins
    unknown: Share
    chance: Share | None = None


class CalibratedAdapter(_Part):
    """One adapter.

    Attributes
    ----------
    round
        The rounds behind it.
    temperature, threshold, false_reject_rate, images
        See :class:`fedclip_edge.calibration.Calibration`; the images are the silos' validation images.
    sources, target
        The silos' own test images, and the target domain's; the latter None without one.
    """

    round: Number
    temperature: Annotated[float, Field(gt=0)]
    threshold: Share
    false_reject_rate: Share
    images: Number
    sources: CalibratedImages
    target: CalibratedImages | None = None

    @property
    def calibration(self) -> Calibration:
        """What goes into the adapter's file."""
        return Calibration(self.temperature, self.threshold, self.false_reject_rate, self.images)


class CalibrationRecord(_Part):
    """The whole file.

    Attributes
    ----------
    adapters
        The best round's, and where it is another one the last round's.
    """

    adapters: Annotated[tuple[CalibratedAdapter, ...], Field(min_length=1, max_length=2)]
