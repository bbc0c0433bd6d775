"""Samples of more than 8 bits in PNG and TIFF, against arithmetic in whole numbers; what is misread is refused."""

import io
import math
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.errors import ImageError
from fedclip_edge.images import open_image, read_rgb
from fedclip_edge.sample_range import is_range
from fedclip_edge.sample_scaling import Scale, to_levels
from tests.support.tiffs import tiff

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
COLOURS = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)


def level(value, low, high):
    """Return the level of one sample by the rule's words, in fractions."""
    fraction = (Fraction(value) - Fraction(low)) / (Fraction(high) - Fraction(low))
    return min(255, max(0, math.floor(256 * fraction)))


def levels(samples, low, high):
    return np.array([level(value, low, high) for value in samples.ravel().tolist()], np.uint8).reshape(samples.shape)


def grey(values):
    return np.repeat(values[..., None], 3, axis=2)


def facts(content, sample_range=None):
    return open_image(io.BytesIO(content), sample_range=sample_range).facts


def png(samples, colour, extra=()):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour, 0, 0, 0)
    middle = b"".join(chunk(*own) for own in extra)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", range(8, 17))
def test_all_values_of_some_bits_keep_their_highest_eight(bits):
    values = np.arange(2**bits, dtype=np.uint16)[:, None]
    np.testing.assert_array_equal(to_levels(values, Scale.of_bits(bits).fraction), values >> (bits - 8))


@pytest.mark.parametrize(("low", "high"), [(0, 4095), (100, 101), (-1000, 400), (0.25, 0.75), (-1, 70000), (1e-3, 2e9)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_levels_are_those_of_exact_fractions(low, high, kind):
    spread = RNG.uniform(low - 1, high + 1, 40)
    if np.issubdtype(kind, np.integer):
        spread = np.clip(spread, np.iinfo(kind).min, np.iinfo(kind).max)
    values = spread.astype(kind).reshape(8, 5)
    np.testing.assert_array_equal(to_levels(values, Scale(low, high, "").fraction), levels(values, low, high))


def test_what_is_no_number_is_black_and_blocks_leave_no_gap(monkeypatch):
    values = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    assert to_levels(values, Scale(0, 1, "").fraction).tolist() == [[0, 255, 0, 128]]
    monkeypatch.setattr("fedclip_edge.sample_scaling._BLOCK", 20)
    np.testing.assert_array_equal(to_levels(COLOURS, Scale.of_bits(16).fraction), COLOURS >> 8)


@pytest.mark.parametrize(
    "value", [None, 5, "ab", [1], [1, 2, 3], [2, 1], [1, 1], ["0", "1"], [False, True], [0, 10**400], [0, math.nan],
              [-math.inf, 0], [-1e308, 1e308], {0: 1, 1: 2}],
)  # fmt: skip
def test_what_is_no_sample_range(value):
    assert not is_range(value)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("samples", [GREY, COLOURS], ids=["grey", "colours"])
def test_a_tiff_of_16_bits(samples, order, deflate):
    content = tiff(samples, order, deflate)
    expected = samples if samples.ndim == 3 else grey(samples)
    np.testing.assert_array_equal(read_rgb(content), expected >> 8)
    np.testing.assert_array_equal(
        read_rgb(content, sample_range=(1000, 5095)), levels(expected.astype(int), 1000, 5095)
    )
    assert (facts(content).format, facts(content).bits, facts(content).scaled_by) == ("TIFF", 16, "bit depth")
    assert facts(content, (0, 9)).scaled_by == "sample_range"


@pytest.mark.parametrize("colour", [0, 2, 6])
def test_a_png_of_16_bits(colour):
    samples = {0: GREY, 2: COLOURS, 6: np.dstack([COLOURS, np.full((5, 7), 65535)]).astype(np.uint16)}[colour]
    expected = grey(GREY) if colour == 0 else COLOURS
    content = png(samples, colour)
    np.testing.assert_array_equal(read_rgb(content), expected >> 8)
    np.testing.assert_array_equal(read_rgb(content, sample_range=(0, 4095)), levels(expected.astype(int), 0, 4095))
    interlaced = io.BytesIO()
    Image.fromarray(GREY).save(interlaced, "PNG")
    assert facts(interlaced.getvalue()).bits == 16


def test_significant_bits_of_a_png_change_nothing():
    """PNG's own words: samples lie over all 16 bits, whatever sBIT says of where they come from."""
    content = png(GREY, 0, [(b"sBIT", b"\x0c")])
    np.testing.assert_array_equal(read_rgb(content), grey(GREY >> 8))


def test_transparency_of_16_bits_is_laid_over_white():
    samples = np.zeros((1, 3, 4), np.uint16)
    samples[..., 3] = [0, 51 * 257, 65535]
    samples[0, 2, :3] = [4095, 2048, 0]
    pixels = read_rgb(png(samples, 6), sample_range=(0, 4095))
    assert pixels[0, :2].tolist() == [[255] * 3, [204] * 3]
    assert pixels[0, 2].tolist() == [255, 128, 0]


def test_samples_of_8_bits_have_no_range():
    eight = (GREY >> 8).astype(np.uint8)
    content = tiff(eight)
    np.testing.assert_array_equal(read_rgb(content, sample_range=(0, 10)), grey(eight))
    assert (facts(content, (0, 10)).bits, facts(content, (0, 10)).scaled_by) == (8, "")


def test_a_tiff_of_12_bits():
    samples = GREY >> 4
    content = tiff(samples, bits=12)
    np.testing.assert_array_equal(read_rgb(content), grey(samples >> 4))
    assert (facts(content).bits, facts(content).scaled_by) == (12, "bit depth")


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_signed_and_floating_point_samples_need_a_range(kind, order, deflate):
    samples = RNG.uniform(-2000, 2000, (5, 7)).astype(kind)
    content = tiff(samples, order, deflate)
    with pytest.raises(ImageError, match=r"the file does not say which are black and white; set sample_range"):
        read_rgb(content)
    expected = levels(samples, -1000, 400)
    np.testing.assert_array_equal(read_rgb(content, sample_range=(-1000, 400)), grey(expected))
    declared = tiff(samples, order, deflate, tags=[(340, 12, [-1000]), (341, 12, [400])])
    np.testing.assert_array_equal(read_rgb(declared), grey(expected))
    assert facts(declared).scaled_by == "SMinSampleValue and SMaxSampleValue"
    np.testing.assert_array_equal(read_rgb(declared, sample_range=(0, 1)), grey(levels(samples, 0, 1)))


def test_unsigned_samples_of_32_bits():
    samples = np.array([[0, 2**31 - 1, 2**31, 2**32 - 1]], np.uint32)
    content = tiff(samples)
    assert read_rgb(content)[0, :, 0].tolist() == [0, 127, 128, 255]
    assert read_rgb(content, sample_range=(2**31, 2**32))[0, :, 0].tolist() == [0, 0, 0, 255]


def test_white_is_zero():
    for content in (tiff(GREY, photometric=0), tiff(GREY, deflate=True, photometric=0)):
        np.testing.assert_array_equal(read_rgb(content), grey(255 - (GREY >> 8)))


@pytest.mark.parametrize("values", [[4095, 4095], [5, 1]])
def test_a_declared_range_that_is_none_is_refused(values):
    content = tiff(GREY, tags=[(340, 3, values[:1]), (341, 3, values[1:])])
    with pytest.raises(ImageError, match=r"SMinSampleValue and SMaxSampleValue are .* which is no range"):
        read_rgb(content)


def test_planes_are_read_where_pillow_reads_them_rightly():
    np.testing.assert_array_equal(read_rgb(tiff(COLOURS, deflate=True, planes=2)), COLOURS >> 8)
    with pytest.raises(ImageError, match=r"\(RGB;16N, in planes of their own\) are scaled by their bit depth only"):
        read_rgb(tiff(COLOURS, deflate=True, planes=2), sample_range=(0, 4095))
    with pytest.raises(ImageError, match=r"lie in planes of their own, .* save it with interleaved colours"):
        read_rgb(tiff(COLOURS, planes=2))
    eight = (COLOURS >> 8).astype(np.uint8)
    np.testing.assert_array_equal(read_rgb(tiff(eight, planes=2)), eight)


def test_what_cannot_be_scaled_is_refused_by_name():
    inks = np.dstack([COLOURS, GREY])
    assert read_rgb(tiff(inks, photometric=5)).shape == (5, 7, 3)
    with pytest.raises(ImageError, match=r"16-bit samples \(CMYK;16L\) are scaled by their bit depth only"):
        read_rgb(tiff(inks, photometric=5), sample_range=(0, 4095))
    with pytest.raises(ImageError, match="a TIFF that is damaged, or whose samples Pillow does not read"):
        read_rgb(tiff(COLOURS.astype(np.float32)))


def test_damaged_compression_is_told_in_words():
    content = bytearray(tiff(GREY, deflate=True))
    content[20:30] = bytes(10)
    with pytest.raises(ImageError, match=r"its compressed pixels are damaged \(decoder error"):
        read_rgb(bytes(content))


def test_the_first_of_several_pages():
    stream = io.BytesIO()
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_rgb(stream.getvalue()), grey(GREY >> 8))
    assert facts(stream.getvalue()).more_frames
    assert not facts(tiff(GREY)).more_frames


@pytest.mark.parametrize("samples", [GREY, COLOURS, (COLOURS >> 8).astype(np.uint8)], ids=["16", "colours", "8"])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiff_is_turned_upright_once(samples, deflate):
    content = tiff(samples, deflate=deflate, tags=[(274, 3, [6])])
    plain = read_rgb(tiff(samples))
    for sample_range in (None, (0, 65536)):
        assert np.abs(read_rgb(content, sample_range=sample_range).astype(int) - np.rot90(plain, -1)).max() <= 1


def test_a_tiff_beyond_the_limits_is_refused_before_it_is_decoded():
    content = tiff(GREY, tags=[(256, 4, [9000]), (257, 4, [9000])])
    with pytest.raises(ImageError, match="9000 x 9000 pixels is more than the limit of 64 million"):
        read_rgb(content)


def test_pil_images_of_more_than_8_bits():
    image = Image.fromarray(GREY)
    np.testing.assert_array_equal(read_rgb(image), grey(GREY >> 8))
    np.testing.assert_array_equal(read_rgb(image, sample_range=(0, 4095)), grey(levels(GREY.astype(int), 0, 4095)))
    floating = Image.fromarray(GREY.astype(np.float32))
    with pytest.raises(ImageError, match="mode F that comes from no file does not say how bright"):
        read_rgb(floating)
    np.testing.assert_array_equal(read_rgb(floating, sample_range=(0, 65535)), grey(levels(GREY.astype(int), 0, 65535)))
