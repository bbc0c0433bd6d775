"""How good labels are, class by class: recall, balanced accuracy, macro F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt


def confusion(true: npt.NDArray[np.int64], answered: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Count answers by class.

    Parameters
    ----------
    true, answered
        Class indices, ``[N]``.

    Returns
    -------
    array of int64
        ``[C, C]``; row true class, column answer.
    """
    cells = true * classes + answered
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class ClassMetrics:
    """How well images of C classes are labelled; all values are fractions. Make it with :meth:`of`.

    Attributes
    ----------
    images
        Images of each class, ``[C]``.
    recall
        Share of a class's images that are labelled with it, ``[C]``; NaN for a class without images.
    accuracy
        Share of all images that are labelled correctly.
    balanced_accuracy
        Mean recall, each class alike, however many images it has.
    macro_f1
        Mean F1, each class alike.

    Notes
    -----
    With M[c, k] images of class c that are labelled k, n_c their sum over k, and m_c the sum of M[k, c] over k (what is
    labelled c): recall_c = M[c, c] / n_c, and F1_c = 2 M[c, c] / (n_c + m_c), the harmonic mean of recall and
    precision. Means are over the classes that have images; a label of another class still counts as wrong. These are
    scikit-learn's ``recall_score``, ``balanced_accuracy_score`` and ``f1_score(average="macro")``, the last with
    ``labels`` set to the classes that have images.
    """

    images: npt.NDArray[np.int64]
    recall: npt.NDArray[np.float64]
    accuracy: float
    balanced_accuracy: float
    macro_f1: float

    @classmethod
    def of(cls, matrix: npt.NDArray[np.int64]) -> Self:
        """Return the metrics of a confusion matrix ``[C, C]``, row true class, column label, with an image at least."""
        images, labelled, right = matrix.sum(1), matrix.sum(0), matrix.diagonal()
        present = images > 0
        with np.errstate(invalid="ignore"):
            recall = right / images
        f1 = 2 * right[present] / (images + labelled)[present]
        accuracy = float(right.sum() / images.sum())
        return cls(images, recall, accuracy, float(recall[present].mean()), float(f1.mean()))
