"""open_rgb: every stored form of an image becomes upright RGB, and what is no image is refused by name."""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedclip_plugin.data import UnreadableImageError, open_rgb
from fedclip_plugin.data.read_image import low_bits_of, read_image
from fedclip_plugin.errors import DataError

FORMATS = {
    **{"a.jpg": "JPEG", "a.JPEG": "JPEG", "a.JFIF": "JPEG", "a.jpe": "JPEG"},
    **{"a.png": "PNG", "a.webp": "WEBP", "a.bmp": "BMP"},
}


def picture(width: int = 40, height: int = 24) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 10 % 256, columns * 6 % 256, (rows + columns) * 4 % 256], axis=-1).astype(np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(("name", "image_format"), FORMATS.items())
def test_opens_every_format_as_pillow_decodes_it(tmp_path: Path, name: str, image_format: str) -> None:
    path = tmp_path / name
    Image.fromarray(picture()).save(path, format=image_format)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(pixels(open_rgb(path)), expected)
    stored = read_image(path)[1]
    assert (stored.format, stored.mode, stored.size) == (image_format, "RGB", (40, 24))


def test_knows_a_format_by_content_not_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture()).save(path, format="PNG")
    np.testing.assert_array_equal(pixels(open_rgb(path)), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = picture()
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    image = open_rgb(path)
    np.testing.assert_array_equal(pixels(image), upright)
    assert image.getexif().get(0x0112, 1) == 1, "a later reader must not rotate again"


def test_applies_exif_orientation_of_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(40, 24)).save(path, exif=exif)
    assert open_rgb(path).size == (24, 40)


def test_unparsable_exif_does_not_refuse_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture()).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert open_rgb(path).size == (40, 24)
    Image.fromarray(picture()).save(path, exif=b"Exif\x00\x00garbage")
    assert open_rgb(path).size == (40, 24)


def test_greyscale_and_bilevel(tmp_path: Path) -> None:
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "grey.png")), np.repeat(grey[..., None], 3, axis=2))
    Image.fromarray(grey > 100).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png")[1].mode == "1"
    assert set(np.unique(pixels(open_rgb(tmp_path / "one.png")))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1), (0, 0, 0, 255)[-len(mode) :])
    image.putalpha(Image.fromarray(np.array([[0, 51, 255]], dtype=np.uint8)))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "a.png"))[0, :, 0], [255, 204, 0])


def test_opaque_alpha_changes_no_pixel(tmp_path: Path) -> None:
    image = Image.fromarray(picture())
    image.putalpha(255)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "a.png")), picture())


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "holes.png", transparency=0)
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "plain.png"))[0], [[10, 20, 30], [200, 100, 50]])
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "holes.png"))[0], [[255, 255, 255], [200, 100, 50]])


def test_transparent_colour_of_rgb_png(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "a.png"))[0], [[255, 255, 255], [4, 5, 6]])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=100)
    assert (read_image(path)[1].format, read_image(path)[1].mode) == ("JPEG", "CMYK")
    assert np.abs(pixels(open_rgb(path)).astype(int) - [255, 0, 0]).max() <= 3


def test_sixteen_bit_grey_keeps_the_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "a.png"))[0, :, 0], [0, 0, 1, 128, 255])


def test_sixteen_bit_colour_keeps_the_high_byte(tmp_path: Path) -> None:
    row = b"\x00" + struct.pack(">6H", 0, 256, 65535, 32768, 255, 513)
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, row))
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / "a.png"))[0], [[0, 1, 255], [128, 0, 2]])


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_first_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    np.testing.assert_array_equal(pixels(open_rgb(tmp_path / name))[0, 0], [255, 0, 0])


def test_jpeg_is_decoded_at_full_size(tmp_path: Path) -> None:
    Image.fromarray(picture(2000, 1500)).save(tmp_path / "a.jpg")
    assert open_rgb(tmp_path / "a.jpg").size == (2000, 1500)


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(image_format: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format=image_format)
    return stream.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("kept", [0.001, 0.01, 0.3, 0.9])
def test_truncated_files_are_refused_by_name(tmp_path: Path, image_format: str, kept: float) -> None:
    whole = encoded(image_format)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: max(1, int(len(whole) * kept))])
    with pytest.raises(UnreadableImageError, match=r"cut\.jpg: .+\. Replace or remove the file") as caught:
        open_rgb(path)
    assert caught.value.path == path
    assert caught.value.reason


BAD_FILES = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "text": (b"this is a text that somebody renamed\n" * 20, "not a JPEG, PNG, WebP, BMP, TIFF or DICOM"),
    "gif": (b"GIF89a" + bytes(100), "not a JPEG, PNG, WebP, BMP, TIFF or DICOM"),
    "large": (png(9000, 9000, 8, 2, b""), r"9000 x 9000 pixels is more than the limit of 64 million"),
    "bomb": (png(60000, 60000, 8, 2, b""), "decompression bomb"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("content", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_is_no_usable_image_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        open_rgb(tmp_path / "a.png")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"none\.png: No such file"):
        open_rgb(tmp_path / "none.png")
    with pytest.raises(UnreadableImageError, match="it is a folder, not a plain file"):
        open_rgb(tmp_path)


def test_limit_of_pixels_is_inclusive(tmp_path: Path) -> None:
    Image.fromarray(picture(40, 24)).save(tmp_path / "a.png")
    assert open_rgb(tmp_path / "a.png", max_pixels=960).size == (40, 24)
    with pytest.raises(UnreadableImageError, match="40 x 24"):
        open_rgb(tmp_path / "a.png", max_pixels=959)


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImageError(Path("a.png"), "cut")))
    assert (error.path, error.reason) == (Path("a.png"), "cut")
    assert "a.png: cut" in str(error)


def test_threads_decode_the_same_pixels(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.jpg" for index in range(24)]
    for index, path in enumerate(paths):
        Image.fromarray(picture(60 + index, 50)).save(path)
    alone = [pixels(open_rgb(path)) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: pixels(open_rgb(path)), paths * 4))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 4, together, strict=True))


def test_a_thread_of_pixels_is_refused_before_it_is_resized(tmp_path: Path) -> None:
    Image.new("RGB", (1, 4000)).save(tmp_path / "thin.png")
    assert open_rgb(tmp_path / "thin.png").size == (1, 4000)
    Image.new("RGB", (1, 6000)).save(tmp_path / "thinner.png")
    with pytest.raises(UnreadableImageError, match="thinner than 1 to 5,000"):
        open_rgb(tmp_path / "thinner.png")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # a socket's path may have some 100 bytes only


NO_PLAIN_FILES = {
    "folder": (Path.mkdir, "it is a folder, not a plain file"),
    "pipe": (pipe, "it is a named pipe, not a plain file"),
    "socket": (socket_file, "it is a socket, not a plain file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a plain file"),
    "dangling link": (lambda path: path.symlink_to("gone/away.png"), r"it is a link to gone/away\.png, which is not"),
    "link in a circle": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize(("make", "reason"), NO_PLAIN_FILES.values(), ids=NO_PLAIN_FILES)
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, make: Any, reason: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match=rf"a\.png: {reason}"):
        open_rgb(tmp_path / "a.png")


def test_a_file_without_permission_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")

    def deny(*given: object) -> int:  # root may read everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(UnreadableImageError, match=r"a\.png: Permission denied"):
        open_rgb(tmp_path / "a.png")


DAMAGED_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40


def test_damaged_exif_of_a_fine_picture_warns_nobody(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=DAMAGED_EXIF)
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        assert open_rgb(tmp_path / "a.jpg").size == (40, 24)
        assert told == []
        warnings.warn("somebody else's", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in told] == ["somebody else's"]


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (np.array([[0, 4095]], dtype=np.uint16), 12),
        (np.array([[0, 1023]], dtype=np.uint16), 10),
        (np.array([[0, 16383]], dtype=np.uint16), 14),
        (np.array([[0, 3]], dtype=np.uint16), 8),
        (np.array([[0, 16384]], dtype=np.uint16), None),
        (np.array([[0, 65535]], dtype=np.uint16), None),
        (np.array([[0, 15]], dtype=np.uint8), None),
    ],
)
def test_how_many_low_bits_a_16_bit_file_uses(tmp_path: Path, values: np.ndarray, bits: int | None) -> None:
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[1].low_bits == low_bits_of(tmp_path / "a.png") == bits


def test_low_bits_of_16_bit_colour(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, b"\x00" + struct.pack(">6H", 0, 4095, 7, 100, 255, 513)))
    assert low_bits_of(tmp_path / "a.png") == 12
