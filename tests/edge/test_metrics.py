"""Recall, balanced accuracy and macro F1 against values worked out by hand."""

import numpy as np
import pytest

from fedclip_edge.metrics import ClassMetrics, confusion


def test_a_confusion_matrix_counts_true_classes_by_row():
    found = confusion(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 0]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_metrics_of_uneven_classes():
    """Eight images of the first class, six right; two of the second, one right.

    F1 of the first: 2 x 6 / (8 + 7), of the second: 2 x 1 / (2 + 3).
    """
    found = ClassMetrics.of(np.array([[6, 2], [1, 1]]))
    assert found.images.tolist() == [8, 2]
    assert found.recall.tolist() == [0.75, 0.5]
    assert found.accuracy == 0.7
    assert found.balanced_accuracy == 0.625
    assert found.macro_f1 == pytest.approx((12 / 15 + 2 / 5) / 2)


def test_a_class_without_images_is_in_no_mean_and_its_label_is_still_wrong():
    """The third class has no image; one image of the first is taken for it."""
    found = ClassMetrics.of(np.array([[3, 0, 1], [0, 2, 0], [0, 0, 0]]))
    assert found.recall[:2].tolist() == [0.75, 1.0] and np.isnan(found.recall[2])
    assert found.balanced_accuracy == 0.875
    assert found.macro_f1 == pytest.approx((6 / 7 + 1) / 2)


def test_a_class_that_is_never_labelled_has_an_f1_of_0():
    found = ClassMetrics.of(np.array([[4, 0], [3, 0]]))
    assert (found.accuracy, found.balanced_accuracy) == (4 / 7, 0.5)
    assert found.macro_f1 == pytest.approx((8 / 11 + 0) / 2)
