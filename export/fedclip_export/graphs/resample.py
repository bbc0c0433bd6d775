"""PIL's resize of one axis in ONNX operators, bicubic or bilinear, exact to the last bit.

Every result is a sum of pixels weighted by a cubic or triangular filter. Pillow rounds the weights to multiples of
2**-22 and the sums to whole levels (``ImagingResample`` in its ``Resample.c``). Here the same integers stand in
float64, where their sums are exact in whatever order they are added, so all runtimes give the same pixels. ONNX's own
``Resize`` works in float32, where positions and halves come out a level off, and it cannot be told to compute the
centre alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedclip_export.graphs.graph_builder import GraphBuilder

_FRACTION = 2.0**22  # PRECISION_BITS of Pillow's Resample.c
_SUPPORT = 2.0  # half width of the cubic filter
_SHARPNESS = -0.5  # the filter's parameter a in Pillow
_BLOCKS = 8  # parts in which results are computed: more cost nodes, fewer hold more of the image as float64


@dataclass(frozen=True)
class Filter:
    """One of Pillow's filters: half its width in source pixels when enlarging, and its weights of distances."""

    support: float
    weigh: Callable[[GraphBuilder, str], str]


@dataclass(frozen=True)
class Crop:
    """By which filter an axis is resized, and whether an odd margin is halved to the even number, or down."""

    filter: Filter
    half_even: bool


@dataclass(frozen=True)
class Axis:
    """One axis of the image on its way to the centre of the resized one; most fields are names of tensors.

    Attributes
    ----------
    number
        0 for rows, 1 for columns.
    size
        Side S of the result.
    start, stop
        The window of the source that the centre needs, ``[1]`` int64 each; N is its length.
    first, last
        Of every result pixel, what it needs of that window: ``[S]`` int64 each, ``last`` exclusive.
    weights
        Whole numbers in float64, ``[S, N]`` for rows and ``[N, S]`` for columns: made the right way round, for old
        runtimes turn Transpose and MatMul into a product that has no float64.
    """

    number: int
    size: int
    start: str
    stop: str
    first: str
    last: str
    weights: str

    @classmethod
    def of(cls, graph: GraphBuilder, sides: str, resized: str, number: int, size: int, crop: Crop) -> Axis:
        """Compute an axis from the sides before and after resizing, ``[2]`` int64 each."""
        source, target = (graph.op("Gather", tensor, graph.ints(number)) for tensor in (sides, resized))
        offset = _half(graph, graph.op("Sub", target, graph.ints(size)), crop.half_even)
        index = graph.op("Add", graph.ints(*range(size)), offset)
        ratio = graph.op("Div", _to_double(graph, source), _to_double(graph, target))
        centres = graph.op("Mul", graph.op("Add", _to_double(graph, index), graph.double(0.5)), ratio)
        stretch = graph.op("Max", ratio, graph.double(1.0))
        reach = graph.op("Mul", stretch, graph.double(crop.filter.support))
        before = _to_int(graph, graph.op("Floor", graph.op("Sub", centres, reach)))
        after = _to_int(graph, graph.op("Ceil", graph.op("Add", centres, reach)))
        first, last = graph.op("Max", before, graph.ints(0)), graph.op("Min", after, source)
        start = graph.op("Slice", first, graph.ints(0), graph.ints(1))
        stop = graph.op("Slice", last, graph.ints(size - 1), graph.ints(size))
        weights = _weights(graph, start, stop, centres, stretch, number, crop.filter)
        return cls(number, size, start, stop, graph.op("Sub", first, start), graph.op("Sub", last, start), weights)

    def window(self, graph: GraphBuilder, image: str) -> str:
        """Cut the window out of an image, ``[H, W, 3]``."""
        return graph.op("Slice", image, self.start, self.stop, graph.ints(self.number))

    def blocks(self, graph: GraphBuilder) -> Iterator[tuple[str, str, str]]:
        """Give for every few results what they need of the window (from, to), and their weights."""
        length = -(-self.size // _BLOCKS)
        for begin in range(0, self.size, length):
            end = min(begin + length, self.size)
            low = graph.op("Slice", self.first, graph.ints(begin), graph.ints(begin + 1))
            high = graph.op("Slice", self.last, graph.ints(end - 1), graph.ints(end))
            own = graph.op("Slice", self.weights, graph.ints(begin), graph.ints(end), graph.ints(self.number))
            yield low, high, graph.op("Slice", own, low, high, graph.ints(1 - self.number))


def resample_columns(graph: GraphBuilder, image: str, axis: Axis) -> str:
    """Resize along the width: uint8 ``[H, N, 3]`` to whole levels ``[3, H, S]`` float64."""
    sums = []
    for low, high, weights in axis.blocks(graph):
        part = graph.op("Transpose", graph.op("Slice", image, low, high, graph.ints(1)), perm=[2, 0, 1])
        sums.append(graph.op("MatMul", _to_double(graph, part), weights))
    return _to_levels(graph, graph.op("Concat", *sums, axis=2))


def resample_rows(graph: GraphBuilder, image: str, axis: Axis) -> str:
    """Resize along the height: ``[3, N, S]`` to whole levels ``[3, S, S]``, float64."""
    sums = []
    for low, high, weights in axis.blocks(graph):
        sums.append(graph.op("MatMul", weights, graph.op("Slice", image, low, high, graph.ints(1))))
    return _to_levels(graph, graph.op("Concat", *sums, axis=1))


def _half(graph: GraphBuilder, surplus: str, even: bool) -> str:
    """Halve a margin, down, or to the even number as ``round`` does in Python."""
    if not even:
        return graph.op("Div", surplus, graph.ints(2))
    return _to_int(graph, graph.op("Round", graph.op("Mul", _to_double(graph, surplus), graph.double(0.5))))


def _weights(
    graph: GraphBuilder, start: str, stop: str, centres: str, stretch: str, number: int, kernel: Filter
) -> str:
    pixels = graph.op("Range", graph.op("Squeeze", start), graph.op("Squeeze", stop), graph.int_scalar(1))
    middles = graph.op("Add", _to_double(graph, pixels), graph.double(0.5))
    source, result = graph.ints(1 - number), graph.ints(number)
    distance = graph.op("Sub", graph.op("Unsqueeze", middles, result), graph.op("Unsqueeze", centres, source))
    weights = kernel.weigh(graph, graph.op("Abs", graph.op("Div", distance, stretch)))
    total = graph.op("ReduceSum", weights, source, keepdims=1)
    return _round(graph, graph.op("Mul", graph.op("Div", weights, total), graph.double(_FRACTION)))


def _cubic(graph: GraphBuilder, x: str) -> str:
    """Pillow's ``bicubic_filter`` of distances x >= 0, in its order of operations."""
    near = graph.op("Sub", graph.op("Mul", x, graph.double(_SHARPNESS + 2)), graph.double(_SHARPNESS + 3))
    near = graph.op("Add", graph.op("Mul", graph.op("Mul", near, x), x), graph.double(1.0))
    far = graph.op("Add", graph.op("Mul", graph.op("Sub", x, graph.double(5.0)), x), graph.double(8.0))
    far = graph.op("Sub", graph.op("Mul", far, x), graph.double(4.0))
    far = graph.op("Mul", far, graph.double(_SHARPNESS))
    outer = graph.op("Where", graph.op("Less", x, graph.double(_SUPPORT)), far, graph.double(0.0))
    return graph.op("Where", graph.op("Less", x, graph.double(1.0)), near, outer)


def _triangle(graph: GraphBuilder, x: str) -> str:
    """Pillow's ``bilinear_filter`` of distances x >= 0."""
    return graph.op("Max", graph.op("Sub", graph.double(1.0), x), graph.double(0.0))


FILTERS = {2: Filter(1.0, _triangle), 3: Filter(_SUPPORT, _cubic)}
"""By their numbers in ``PIL.Image.Resampling``."""


def _round(graph: GraphBuilder, x: str) -> str:
    """Round halves away from zero, as Pillow rounds its weights."""
    magnitude = graph.op("Floor", graph.op("Add", graph.op("Abs", x), graph.double(0.5)))
    return graph.op("Mul", magnitude, graph.op("Sign", x))


def _to_levels(graph: GraphBuilder, sums: str) -> str:
    # In this order: a product followed by a factor would be fused, into one that has no float64 either.
    rounded = graph.op("Add", sums, graph.double(_FRACTION / 2))
    whole = graph.op("Floor", graph.op("Mul", rounded, graph.double(1 / _FRACTION)))
    return graph.op("Clip", whole, graph.double(0.0), graph.double(255.0))


def _to_double(graph: GraphBuilder, x: str) -> str:
    return graph.op("Cast", x, to=graph.DOUBLE)


def _to_int(graph: GraphBuilder, x: str) -> str:
    return graph.op("Cast", x, to=graph.INT64)
