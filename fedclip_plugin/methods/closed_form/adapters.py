"""Methods that are solved from the silos' sums, in one round: nothing is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import AdapterInputs, keep_known_rows
from fedclip_plugin.methods.closed_form.feature_sums import Statistics
from fedclip_plugin.methods.zero_shot import ZeroShot
from fedclip_plugin.runs import SavedAdapter


class Solution(NamedTuple):
    """What the images say of the classes: logits ``f W^T + b`` of unit-length features f; 0 for absent classes."""

    weights: Tensor  # W, ``[C, d]``
    biases: Tensor  # b, ``[C]``


class ClosedForm(ZeroShot):
    """An image's logits are CLIP's own and ``mix`` times those of a :class:`Solution`, times a temperature.

    Rows ``T + mix / s W``, biases ``mix / s b`` and the factor ``temperature s`` say all of it, for text features T and
    CLIP's factor s. Round 0, and every class without images, has the text feature as its row.

    Attributes
    ----------
    needs_gram
        Whether silos send a Gram matrix.
    has_biases
        Whether the solution has biases.
    penalties
        Values of the regularisation, of which one is chosen by the silos' validation images.
    mixes
        Values of the mixing weight, chosen likewise.
    """

    trains_classes = True
    needs_gram: ClassVar[bool] = True
    has_biases: ClassVar[bool] = False
    penalties: ClassVar[tuple[float, ...]] = (1.0,)
    mixes: ClassVar[tuple[float, ...]]

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.rows = nn.Parameter(frozen.text.features.to(dtype, copy=True))
        self.factor = nn.Parameter(torch.tensor(frozen.text.logit_scale, dtype=dtype))
        if self.has_biases:
            self.biases = nn.Parameter(torch.zeros(len(self.rows), dtype=dtype))

    @classmethod
    def on_classes(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter for other classes: those that it knows keep row and bias, others are zero-shot."""
        adapter = cls(frozen)
        keep_known_rows(adapter.rows, saved, "rows", frozen)
        if cls.has_biases:
            keep_known_rows(adapter.biases, saved, "biases", frozen)
        with torch.no_grad():
            adapter.factor.copy_(torch.tensor(saved.tensors["factor"]))
        return adapter

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the rows, ``[C, d]``; their lengths differ, and count."""
        return self.rows

    def class_biases(self, text: TextFeatures) -> Tensor | None:
        """Return what is added to the products with the rows, ``[C]``; None for methods without."""
        return self.biases if self.has_biases else None

    def scale(self, text: TextFeatures) -> Tensor:
        """Return the factor on products and biases."""
        return self.factor

    @classmethod
    def no_sums(cls, rows: Tensor, device: str = "cpu") -> Statistics:
        """Return the sums that a silo without images would send, for class features ``[C, d]``."""
        classes, width = rows.shape
        return Statistics.none(classes, width, cls.needs_gram, device)

    @classmethod
    @abstractmethod
    def solve(cls, statistics: Statistics, penalty: float) -> Solution:
        """Return the solution for sums over all images, in float64."""

    @classmethod
    def mixed(cls, text: TextFeatures, found: Solution, mix: float, temperature: float) -> OrderedDict[str, Tensor]:
        """Return the parameters of the adapter for a solution."""
        share = mix / text.logit_scale
        rows = text.features.double() + share * found.weights
        named = OrderedDict(rows=rows.float(), factor=torch.tensor(text.logit_scale * temperature))
        if cls.has_biases:
            named["biases"] = (share * found.biases).float()
        return named


class Ridge(ClosedForm):
    """Ridge regression from features to classes, exact in one round: Fed3R (Fani et al. 2024, arXiv 2406.01116).

    ``W = S (G + lambda I)^-1``, from the class sums S and the Gram matrix G of all silos; without a bias, and with
    zero-shot CLIP's logits added, so that classes without images keep theirs.
    """

    penalties = (0.01, 0.1, 1.0, 10.0, 100.0)
    mixes = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

    @classmethod
    def solve(cls, statistics: Statistics, penalty: float) -> Solution:
        """Return ``W``; the penalty is lambda."""
        weights = torch.cholesky_solve(statistics.sums.T, _factor(statistics.matrix(), penalty)).T
        return Solution(weights, torch.zeros(len(weights), dtype=torch.float64))


class ClassMeans(ClosedForm):
    """Nearest class mean by cosine: FedNCM (Legate et al. 2023, arXiv 2303.12767), with zero-shot CLIP's logits added.

    The direction of the mean of all images is taken off each class's, which changes no comparison between classes that
    have images, and leaves 0 for those that have none.
    """

    needs_gram = False
    mixes = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

    @classmethod
    def solve(cls, statistics: Statistics, penalty: float) -> Solution:
        """Return the differences of directions; there is no penalty."""
        common = normalize(statistics.sums.sum(0), dim=0)
        weights = _where_present(statistics, normalize(statistics.sums, dim=1) - common)
        return Solution(weights, torch.zeros(len(weights), dtype=torch.float64))


class Gaussian(ClosedForm):
    """Gaussian discriminant analysis with one covariance (Wang et al., ICLR 2024, arXiv 2402.04087), federated exactly.

    The sums are those of FedCGS (arXiv 2503.06962). Logits are log densities of a class over that of all images
    together, with the precision shrunk as by Kubokawa and Srivastava; every class is as likely as the others
    beforehand, and one without images as likely as its zero-shot logit says.
    """

    has_biases = True
    mixes = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

    @classmethod
    def solve(cls, statistics: Statistics, penalty: float) -> Solution:
        """Return ``W = P (mu_c - mu)``, and the biases that go with it; there is no penalty."""
        counts, sums = statistics.counts, statistics.sums
        means, total = sums / counts.clamp(min=1)[:, None], float(counts.sum())
        common = sums.sum(0) / max(total, 1.0)
        precision = cls._precision(statistics, means, total)
        weights = (means - common) @ precision
        biases = -((means @ precision) * means).sum(1) / 2 + common @ precision @ common / 2
        return Solution(_where_present(statistics, weights), _where_present(statistics, biases))

    @staticmethod
    def _precision(statistics: Statistics, means: Tensor, total: float) -> Tensor:
        """Return P, the shrunken inverse of the covariance within classes; where no class has two images, of a sphere.

        ``P = d ((N - 1) Sw + tr(Sw) I)^-1``.
        """
        counts, width = statistics.counts, means.shape[1]
        degrees, sphere = total - int((counts > 0).sum()), torch.eye(width, dtype=torch.float64)
        if degrees < 1:
            return sphere
        within = (statistics.matrix() - (means * counts[:, None]).T @ means) / degrees
        trace = float(within.trace())
        if trace < 1e-9:  # copies of one image
            return sphere
        return width * torch.cholesky_inverse(_factor((total - 1) * within, trace))


def _factor(matrix: Tensor, added: float) -> Tensor:
    """Return the Cholesky factor of a matrix with ``added`` on its diagonal.

    Noise may leave directions in which a Gram matrix is negative; where that keeps it from having a factor, they count
    as 0.
    """
    whole = matrix.clone()
    whole.diagonal().add_(added)
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(whole)
    if int(failed):
        values, vectors = torch.linalg.eigh(matrix)
        factor = torch.linalg.cholesky((vectors * (values.clamp(min=0) + added)) @ vectors.T)
    return factor


def _where_present(statistics: Statistics, values: Tensor) -> Tensor:
    """Return values by class, 0 for classes without images."""
    there = (statistics.counts > 0).reshape(-1, *[1] * (values.dim() - 1))
    return values.where(there, 0.0)
