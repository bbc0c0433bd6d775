"""Images from a file, from bytes, from memory: the same pixels and refusals on a device and in training."""

import io
import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.errors import ImageError, MissingPackageError
from fedclip_edge.image_file import MAX_ASPECT
from fedclip_edge.images import read_rgb
from fedclip_plugin.data import UnreadableImageError, open_rgb


def picture(width=40, height=24):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 10 % 256, columns * 6 % 256, (rows + columns) * 4 % 256], axis=-1).astype(np.uint8)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def oriented(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width, height, depth, colour, rows):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def with_holes(mode):
    image = Image.fromarray(picture()).convert(mode)
    image.putalpha(Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (24, 1))))
    return image


def palette(**options):
    return encoded(Image.fromarray(picture()).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", **options)


RGB = Image.fromarray(picture())
GREY = RGB.convert("L")
FRAMES = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
READABLE = {
    **{f"jpeg orientation {n}": encoded(RGB, "JPEG", exif=oriented(n)) for n in range(10)},
    **{f"png orientation {n}": encoded(RGB, "PNG", exif=oriented(n)) for n in range(1, 9)},
    "webp orientation 6": encoded(RGB, "WEBP", lossless=True, exif=oriented(6)),
    "png alpha orientation 8": encoded(with_holes("RGB"), "PNG", exif=oriented(8)),
    "jpeg garbage exif": encoded(RGB, "JPEG", exif=b"Exif\x00\x00garbage"),
    "jpeg truncated exif": encoded(RGB, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"),
    "jpeg grey": encoded(GREY, "JPEG"),
    "jpeg cmyk": encoded(RGB.convert("CMYK"), "JPEG"),
    "jpeg progressive": encoded(RGB, "JPEG", progressive=True),
    "jpeg large": encoded(Image.fromarray(picture(1501, 1000)), "JPEG"),
    "png rgba": encoded(with_holes("RGB"), "PNG"),
    "png la": encoded(with_holes("L"), "PNG"),
    "png palette": palette(),
    "png palette transparent": palette(transparency=3),
    "png palette many alphas": palette(transparency=bytes(range(0, 250, 10))),
    "png rgb transparent colour": encoded(RGB, "PNG", transparency=(0, 0, 0)),
    "png grey transparent colour": encoded(GREY, "PNG", transparency=7),
    "png bilevel": encoded(GREY.convert("1"), "PNG"),
    "png 16 bit grey": encoded(Image.fromarray(picture()[..., 0].astype(np.uint16) * 257 - 3), "PNG"),
    "png 16 bit rgb": raw_png(2, 1, 16, 2, b"\x00" + struct.pack(">6H", 0, 256, 65535, 32768, 255, 513)),
    "png 16 bit grey alpha": raw_png(2, 1, 16, 4, b"\x00" + struct.pack(">4H", 40000, 30000, 255, 65535)),
    "png of one pixel": encoded(Image.new("RGB", (1, 1), "teal"), "PNG"),
    "png animated": encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
    "webp animated": encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
    "webp": encoded(RGB, "WEBP"),
    "webp alpha": encoded(with_holes("RGB"), "WEBP", lossless=True),
    "bmp": encoded(RGB, "BMP"),
    "bmp palette": encoded(RGB.convert("P"), "BMP"),
    "bmp alpha": encoded(with_holes("RGB"), "BMP"),
    "as thin as allowed": encoded(Image.new("L", (MAX_ASPECT, 1), 9), "PNG"),
}
UNREADABLE = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"no image at all",
    "gif": encoded(RGB.convert("P"), "GIF"),
    "jpeg cut in half": encoded(RGB, "JPEG")[: len(encoded(RGB, "JPEG")) // 2],
    "jpeg header only": encoded(RGB, "JPEG")[:30],
    "png cut in half": encoded(RGB, "PNG")[: len(encoded(RGB, "PNG")) // 2],
    "webp cut in half": encoded(RGB, "WEBP")[: len(encoded(RGB, "WEBP")) // 2],
    "bmp cut in half": encoded(RGB, "BMP")[:900],
    "png whose pixels are garbage": raw_png(9, 9, 8, 2, b"\x07" * 30),
    "header promises 10 thousand million pixels": raw_png(100_000, 100_000, 8, 2, b"\0"),
    "one pixel too many": raw_png(8_001, 8_000, 8, 2, b"\0"),
    "too thin": encoded(Image.new("L", (1, MAX_ASPECT + 1)), "PNG"),
}


@pytest.mark.parametrize("name", READABLE)
def test_pixels_equal_what_training_saw(tmp_path, name):
    path = tmp_path / "image"
    path.write_bytes(READABLE[name])
    expected = np.asarray(open_rgb(path))
    for image in (path, str(path), READABLE[name], bytearray(READABLE[name]), Image.open(path)):
        pixels = read_rgb(image)
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", UNREADABLE)
def test_refuses_what_training_refuses(tmp_path, name):
    path = tmp_path / "bad.png"
    path.write_bytes(UNREADABLE[name])
    with pytest.raises(UnreadableImageError):
        open_rgb(path)
    with pytest.raises(ImageError, match=r"bad\.png: \S+"):
        read_rgb(path)
    with pytest.raises(ImageError, match=r"\(bytes\): \S+"):
        read_rgb(UNREADABLE[name])


def test_limit_of_pixels_is_the_callers(tmp_path):
    path = tmp_path / "a.png"
    RGB.save(path)
    assert read_rgb(path, max_pixels=960).shape == (24, 40, 3)
    for image in (path, RGB, picture()):
        with pytest.raises(ImageError, match=r"40 x 24 pixels is more than the limit of 0\.000959 million"):
            read_rgb(image, max_pixels=959)


@pytest.mark.parametrize(
    ("place", "reason"), [("missing.png", "No such file"), (".", "it is a folder; give its files")]
)
def test_unreadable_paths_are_named(tmp_path, place, reason):
    with pytest.raises(ImageError, match=reason):
        read_rgb(tmp_path / place)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"pipe\.jpg: it is a named pipe, not a plain file"):
        read_rgb(tmp_path / "pipe.jpg")


def test_alpha_that_is_multiplied_in_is_taken_out_first():
    for straight, multiplied in (("LA", "La"), ("RGBA", "RGBa")):
        image = with_holes(straight[:-1]).convert(multiplied)
        np.testing.assert_array_equal(read_rgb(image), read_rgb(image.convert(straight)))


def test_numbers_of_unknown_range_are_refused():
    image = Image.fromarray(picture()[..., 0].astype(np.int32))
    assert image.mode == "I"
    with pytest.raises(ImageError, match=r"mode I that comes from no file .* convert it to L, RGB or I;16"):
        read_rgb(image)


def test_arrays_are_taken_as_they_are():
    pixels = picture()
    np.testing.assert_array_equal(read_rgb(pixels), pixels)
    mirrored = read_rgb(pixels[:, ::-1])
    assert mirrored.flags.c_contiguous
    np.testing.assert_array_equal(mirrored, pixels[:, ::-1])


@pytest.mark.parametrize(
    "array",
    [picture().astype(np.float32) / 255, picture().astype(np.int16), picture()[..., 0], np.zeros((4, 4, 4), np.uint8),
     picture()[None], picture().transpose(2, 0, 1)],
)  # fmt: skip
def test_other_arrays_are_refused_with_what_to_give(array):
    with pytest.raises(ImageError, match=r"must be uint8 of shape \[height, width, 3\]"):
        read_rgb(array)


def test_an_array_without_pixels_and_other_types_are_refused():
    with pytest.raises(ImageError, match="nothing in it"):
        read_rgb(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ImageError, match="give a path, bytes, a PIL image, or an array"):
        read_rgb(7)


def test_a_pil_image_is_left_unchanged():
    image = with_holes("RGB")
    before = (image.mode, image.tobytes())
    read_rgb(image)[:] = 0
    assert (image.mode, image.tobytes()) == before


def test_without_pillow_arrays_work_and_files_say_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert read_rgb(picture()).shape == (24, 40, 3)
    with pytest.raises(MissingPackageError, match=r"fedclip-edge\[image\]"):
        read_rgb(READABLE["bmp"])


def test_memory_errors_are_not_blamed_on_the_image(monkeypatch):
    def fail(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(MemoryError):
        read_rgb(RGB)


def test_damaged_exif_of_a_fine_picture_warns_nobody():
    content = encoded(RGB, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        assert read_rgb(content).shape == (24, 40, 3)
    assert told == []
