"""Folders of 16-bit TIFF and of DICOM are encoded as a device reads them; the range is part of the caches' keys."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.images import read_rgb
from fedclip_plugin.data import UnreadableImageError, open_rgb, remarks, scan_folder
from fedclip_plugin.features import FeatureSource
from tests.support.dicoms import dicom
from tests.support.tiffs import tiff

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(0, 4096, (4, 40, 50)).astype(np.uint16)


def files(kind):
    """Return files of SAMPLES by name, and the levels that they are by a range of 0 to 4095."""
    make = {"tif": tiff, "dcm": lambda samples: dicom(samples, BitsStored=16)}[kind]
    return {f"{'cat' if n % 2 else 'dog'}/{n}.{kind}": make(samples) for n, samples in enumerate(SAMPLES)}


@pytest.fixture(params=["tif", "dcm"])
def root(request, tmp_path):
    for name, content in files(request.param).items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
    return tmp_path / "images"


def source(root, sample_range=None):
    return FeatureSource("clip-tiny", CPU, "fp32", root.parent / "cache", 4, 2, sample_range=sample_range)


def images(root):
    return scan_folder(root, "silo", None)


def test_a_folder_is_encoded_as_its_scaled_samples_are(root):
    encoder = source(root, (0, 4095))
    found = encoder.images(images(root), False)
    clip = encoder.clip()
    order = [int(path.stem) for path in images(root).paths()]
    levels = [np.repeat((SAMPLES[n] >> 4).astype(np.uint8)[..., None], 3, axis=2) for n in order]
    pixels = torch.from_numpy(np.stack([clip.preprocess(Image.fromarray(own)) for own in levels]))
    torch.testing.assert_close(found.data.features, clip.encode_pixels(pixels), atol=1e-6, rtol=0)


def test_another_range_is_another_entry_of_both_caches(root):
    by_range, again, by_bits = source(root, (0, 4095)), source(root, (0, 4095)), source(root)
    first = by_range.images(images(root), False)
    assert (first.encoded, again.images(images(root), False).encoded) == (4, 0)
    assert (by_bits.count_missing(images(root)), source(root, (0, 4000)).count_missing(images(root))) == (4, 4)
    dark = by_bits.images(images(root), False)
    assert not torch.equal(first.data.features, dark.data.features)
    crops = [source(root, given).pixels(images(root), False) for given in ((0, 4095), (0, 4095), None, (0, 4000))]
    assert [made.encoded for made in crops] == [4, 0, 4, 4]
    bright, _, dark, _ = [made.data.batch(torch.arange(4)).inputs for made in crops]
    assert (bright.float().mean() > 8 * dark.float().mean()).item()


@pytest.mark.parametrize("sample_range", [None, (0, 4095), (-10.5, 3000)])
def test_a_device_reads_the_pixels_that_training_read(root, sample_range):
    for path in images(root).paths():
        trained = np.asarray(open_rgb(path, sample_range=sample_range))
        np.testing.assert_array_equal(read_rgb(path, sample_range=sample_range), trained)
        np.testing.assert_array_equal(read_rgb(path.read_bytes(), sample_range=sample_range), trained)


def test_dark_samples_are_remarked_on_until_a_range_is_set(root):
    (line,) = remarks(images(root))
    assert "use only the lowest 12, such as cat/1." in line
    assert "set fedclip_args.sample_range, such as [0, 4095]" in line
    assert remarks(images(root), (0, 4095)) == []


def test_a_file_that_needs_a_range_is_read_once_there_is_one(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.tif").write_bytes(tiff(SAMPLES[0].astype(np.float32)))
    (tmp_path / "images/cat/2.tif").write_bytes(tiff(SAMPLES[1]))
    place = tmp_path / "images"
    without = source(place).images(images(place), True)
    assert (len(without.data), len(without.faults)) == (1, 2)
    assert "set sample_range" in str(without.faults[0])
    assert len(source(place, (0, 4095)).images(images(place), True).data) == 3


def test_without_pydicom_nothing_is_skipped(tmp_path, monkeypatch):
    for name, samples in (("cat", SAMPLES[0]), ("dog", SAMPLES[1])):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.dcm").write_bytes(dicom(samples))
    place = tmp_path / "images"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pydicom", None)
        with pytest.raises(MissingPackageError, match=r"1\.dcm: DICOM needs pydicom: pip install"):
            source(place).images(images(place), True)
    assert source(place).images(images(place), False).encoded == 2


def damaged(content, seed):
    """Return a file cut off, or with a few bytes changed behind its magic number."""
    rng = np.random.default_rng(seed)
    made = bytearray(content)
    if seed % 3 == 0:
        return bytes(made[: rng.integers(1, len(made))])
    for _ in range(rng.integers(1, 6)):
        made[rng.integers(0 if made[:2] in (b"II", b"MM") else 132, len(made))] = rng.integers(0, 256)
    return bytes(made)


WHOLE = {
    "tiff": tiff(SAMPLES[0]),
    "colours": tiff(RNG.integers(0, 65536, (9, 7, 3)).astype(np.uint16)),
    "dicom": dicom(SAMPLES[0], WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-1024),
}


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_files_are_unreadable_and_nothing_else(tmp_path, name):
    path, outcomes = tmp_path / "damaged", set()
    for seed in range(90):
        path.write_bytes(damaged(WHOLE[name], seed))
        try:
            open_rgb(path, sample_range=(0, 4095) if seed % 2 else None)
            outcomes.add("read")
        except UnreadableImageError as error:
            assert error.reason and "\n" not in error.reason
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
