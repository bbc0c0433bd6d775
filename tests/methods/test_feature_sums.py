"""Sums over images: they add, however the images are split, and what travels keeps them."""

import pytest
import torch
from torch.nn.functional import normalize

from fedclip_plugin.features import FeatureSet
from fedclip_plugin.methods.closed_form.feature_sums import QUANTUM, Statistics, small_classes

WIDTH, CLASSES = 16, 5


def images(count, seed=0, views=0, classes=CLASSES):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    extra = torch.randn(count, views, WIDTH, generator=generator) if views else None
    return FeatureSet(3 * torch.randn(count, WIDTH, generator=generator), labels, extra)


def of(data, gram=True, **given):
    return Statistics.of(data, CLASSES, gram, **given)


def assert_same(one, other, **near):
    for name in ("counts", "sums", "gram"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), **near)


def test_they_are_counts_class_sums_and_the_gram_matrix_of_unit_features():
    data = images(40)
    found, unit = of(data), normalize(data.features.double(), dim=-1)
    assert found.counts.tolist() == torch.bincount(data.labels, minlength=CLASSES).tolist()
    for label in range(CLASSES):
        torch.testing.assert_close(found.sums[label], unit[data.labels == label].sum(0))
    torch.testing.assert_close(found.matrix(), unit.T @ unit)
    assert of(data, gram=False).gram is None


def test_they_are_the_same_however_images_are_ordered_and_split():
    data, order = images(60), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    whole = of(data)
    parts = [data.subset(part) for part in order.split([1, 0, 20, 39])]
    split = sum((of(part) for part in parts), Statistics.none(CLASSES, WIDTH, True))
    assert_same(whole, split, atol=1e-10, rtol=0)


def test_each_view_counts_as_an_image():
    data = images(10, views=2)
    apart = FeatureSet(
        torch.cat([data.features, data.views.flatten(0, 1)]), torch.cat([data.labels, data.labels.repeat_interleave(2)])
    )
    assert_same(of(data), of(apart), atol=1e-12, rtol=0)


def test_what_travels_adds_exactly_in_any_order():
    sent = [Statistics.from_wire(of(images(30, seed)).to_wire()) for seed in range(20)]
    forwards, backwards = sent[0], sent[-1]
    for one in sent[1:]:
        forwards += one
    for one in reversed(sent[:-1]):
        backwards += one
    assert_same(forwards, backwards, atol=0, rtol=0)
    assert_same(forwards - sent[3] + sent[3], forwards, atol=0, rtol=0)
    assert torch.equal((forwards.gram / QUANTUM).round(), forwards.gram / QUANTUM)


@pytest.mark.parametrize("gram", [True, False])
def test_what_travels_is_four_bytes_a_number_and_hardly_differs(gram):
    found = of(images(30), gram)
    sent = found.to_wire()
    numbers = CLASSES * WIDTH + gram * WIDTH * (WIDTH + 1) // 2
    scales = CLASSES + gram * WIDTH
    assert sum(tensor.nbytes for tensor in sent.values()) == 4 * numbers + 8 * (CLASSES + scales)
    again = Statistics.from_wire(sent)
    torch.testing.assert_close(again.sums, found.sums, atol=1e-8, rtol=0)
    if gram:
        torch.testing.assert_close(again.gram, found.gram, atol=1e-8, rtol=0)
    torch.testing.assert_close(again.of_flat(again.flat()).sums, again.sums, atol=0, rtol=0)


def test_vit_b32_sends_no_more_than_promised():
    sent = Statistics.none(7, 512, True).to_wire()
    assert sum(tensor.nbytes for tensor in sent.values()) <= 600_000 + 2_000 * 7


def test_small_classes_are_left_out_whole():
    data = FeatureSet(images(7).features, torch.tensor([0, 0, 0, 1, 3, 3, 3]))
    assert small_classes(data.labels, CLASSES, 2) == [1]
    assert small_classes(data.labels, CLASSES, 1) == []
    found, kept = of(data, left_out=[1]), data.subset(torch.tensor([0, 1, 2, 4, 5, 6]))
    assert_same(found, of(kept), atol=0, rtol=0)
    assert found.counts.tolist() == [3, 0, 0, 3, 0]


def test_no_image_gives_zeros():
    found = of(images(3).subset(torch.tensor([], dtype=torch.int64)))
    assert float(found.counts.sum()) == 0
    assert found.fault(0) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sums": torch.full((CLASSES, WIDTH), torch.nan).double()}, "it holds NaN"),
        ({"counts": torch.full((CLASSES,), 100.0).double()}, "it counts 500 images, of at most 30"),
        ({"counts": torch.tensor([-1.0, 1, 1, 1, 1]).double()}, "it counts 3 images"),
        ({"sums": torch.full((CLASSES, WIDTH), 30.0).double()}, "longer than that many unit-length features"),
        ({"gram": torch.ones(WIDTH * (WIDTH + 1) // 2).double()}, "trace of its Gram matrix is not the number"),
    ],
)
def test_what_cannot_be_sums_of_unit_features_is_told(change, text):
    good = of(images(30))
    assert good.fault(30) is None
    assert text in Statistics(**vars(good) | change).fault(30)
