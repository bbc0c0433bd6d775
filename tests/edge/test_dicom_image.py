"""DICOM files: rescale, window, inversion and first frame against arithmetic of their own; what is none is refused."""

import io
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from fedclip_edge.errors import ImageError, MissingPackageError
from fedclip_edge.images import open_image, read_rgb
from tests.support.dicoms import dataset, dicom, item, written

RNG = np.random.default_rng(0)
CT = RNG.integers(0, 4096, (6, 8)).astype(np.uint16)
EIGHT = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)


def seen(content, sample_range=None):
    """Return the levels of a grey image ``[H, W]``."""
    pixels = read_rgb(content, sample_range=sample_range)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def facts(content, sample_range=None):
    return open_image(io.BytesIO(content), sample_range=sample_range).facts


def each(samples, fraction):
    """Return levels by the rule's words, of exact fractions, sample by sample."""
    flat = [min(255, max(0, math.floor(256 * fraction(Fraction(value))))) for value in samples.ravel().tolist()]
    return np.array(flat, np.uint8).reshape(samples.shape)


def test_without_a_window_all_bits_that_are_stored_count():
    content = dicom(CT, BitsStored=12)
    np.testing.assert_array_equal(seen(content), CT >> 4)
    assert (facts(content).format, facts(content).mode, facts(content).bits) == ("DICOM", "MONOCHROME2", 12)
    assert facts(content).scaled_by == "bit depth"
    np.testing.assert_array_equal(seen(dicom(EIGHT)), EIGHT)
    assert (facts(dicom(EIGHT)).bits, facts(dicom(EIGHT)).scaled_by) == (8, "")


def test_signed_values_and_a_rescale():
    signed = (CT.astype(int) - 2048).astype(np.int16)
    np.testing.assert_array_equal(seen(dicom(signed, BitsStored=12)), CT >> 4)
    np.testing.assert_array_equal(
        seen(dicom(CT, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1024)), CT >> 4, "it moves all values alike"
    )
    turned = seen(dicom(CT, BitsStored=12, RescaleSlope=-1, RescaleIntercept=0))
    np.testing.assert_array_equal(turned, (4095 - CT) >> 4)


def test_a_sample_range_is_of_rescaled_values_and_yields_to_a_window():
    content = dicom(CT, RescaleSlope=1, RescaleIntercept=-1024)
    expected = each(CT.astype(int) - 1024, lambda value: (value + 160) / 400)
    np.testing.assert_array_equal(seen(content, (-160, 240)), expected)
    assert facts(content, (-160, 240)).scaled_by == "sample_range"
    windowed = dicom(CT, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    np.testing.assert_array_equal(seen(windowed, (0, 1)), seen(windowed))
    assert facts(windowed, (0, 1)).scaled_by == "window"
    np.testing.assert_array_equal(seen(dicom(EIGHT), (0, 10)), EIGHT, "8 bits need no range")


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (2048, 4096), (0.5, 1), (-600.5, 1500), (10, 2)])
def test_linear_windows_by_the_standards_words(centre, width):
    """PS3.3, C.11.2.1.2.1: at or below c - 0.5 - (w - 1) / 2 black, above c - 0.5 + (w - 1) / 2 white."""
    c, w = Fraction(centre), Fraction(width)

    def fraction(value):
        if value <= c - Fraction(1, 2) - (w - 1) / 2:
            return 0
        if value > c - Fraction(1, 2) + (w - 1) / 2:
            return 1
        return (value - (c - Fraction(1, 2))) / (w - 1) + Fraction(1, 2)

    content = dicom(CT, RescaleIntercept=-1024, RescaleSlope=1, WindowCenter=centre, WindowWidth=width)
    np.testing.assert_array_equal(seen(content), each(CT.astype(int) - 1024, fraction))


def test_the_other_window_functions():
    given = {"RescaleIntercept": -1024, "RescaleSlope": 1, "WindowCenter": 40, "WindowWidth": 400}
    values = CT.astype(int) - 1024
    exact = each(values, lambda value: (value - 40) / 400 + Fraction(1, 2))
    np.testing.assert_array_equal(seen(dicom(CT, **given, VOILUTFunction="LINEAR_EXACT")), exact)
    flat = [min(255, math.floor(256 / (1 + math.exp(-4 * (value - 40) / 400)))) for value in values.ravel().tolist()]
    sigmoid = seen(dicom(CT, **given, VOILUTFunction="SIGMOID"))
    np.testing.assert_array_equal(sigmoid, np.array(flat).reshape(CT.shape))


def test_the_first_of_several_windows_and_no_window_at_all():
    several = dicom(CT, WindowCenter=[1000, 5], WindowWidth=[500, 2], WindowCenterWidthExplanation=["A", "B"])
    np.testing.assert_array_equal(seen(several), seen(dicom(CT, WindowCenter=1000, WindowWidth=500)))
    empty = dicom(CT, BitsStored=12, WindowCenter=None, WindowWidth=None)
    np.testing.assert_array_equal(seen(empty), CT >> 4)
    assert facts(empty).scaled_by == "bit depth"


@pytest.mark.parametrize("window", [{"WindowWidth": 0}, {"WindowWidth": 0.5}, {"VOILUTFunction": "CURVED"}])
def test_a_window_that_is_none_is_refused(window):
    content = dicom(CT, **{"WindowCenter": 40, "WindowWidth": 400, **window})
    with pytest.raises(ImageError, match=r"its window of width .* is none of DICOM's; mend its header"):
        read_rgb(content)


def test_monochrome1_is_inverted_after_the_window():
    given = {"WindowCenter": 2000, "WindowWidth": 1000}
    np.testing.assert_array_equal(seen(dicom(CT, "MONOCHROME1", **given)), 255 - seen(dicom(CT, **given)))


def table(entries, first, bits, as_bytes=True):
    output = RNG.integers(0, 2**bits, entries)
    data = output.astype("<u2" if bits > 8 else "u1").tobytes() if as_bytes else output.tolist()
    made = item(LUTDescriptor=[entries, first, bits], LUTData=data)
    made["LUTDescriptor"].VR, made["LUTData"].VR = "US", "OW" if as_bytes else "US"
    return made, output


@pytest.mark.parametrize(("bits", "as_bytes"), [(8, True), (12, True), (16, True), (16, False)])
def test_look_up_tables_of_modality_and_voi(bits, as_bytes):
    made, output = table(3000, 500, bits, as_bytes)
    looked_up = output[np.clip(CT.astype(int) - 500, 0, 2999)]
    voi = dicom(CT, VOILUTSequence=[made])
    np.testing.assert_array_equal(seen(voi), each(looked_up, lambda value: value / (2**bits - 1)))
    assert facts(voi).scaled_by == "VOI LUT"
    modality = dicom(CT, ModalityLUTSequence=[made], WindowCenter=100, WindowWidth=101)
    np.testing.assert_array_equal(
        seen(modality), each(looked_up, lambda value: (value - Fraction(199, 2)) / 100 + Fraction(1, 2))
    )
    plain = dicom(CT, ModalityLUTSequence=[made])
    np.testing.assert_array_equal(seen(plain), each(looked_up, lambda value: value / (2**bits - 1)))
    both = dicom(CT, VOILUTSequence=[made], WindowCenter=2000, WindowWidth=1000)
    np.testing.assert_array_equal(seen(both), seen(dicom(CT, WindowCenter=2000, WindowWidth=1000)))


def test_the_first_of_several_frames():
    frames = np.stack([CT, CT[::-1], CT[:, ::-1]])
    content = dicom(frames, NumberOfFrames=3, BitsStored=12)
    np.testing.assert_array_equal(seen(content), CT >> 4)
    assert facts(content).more_frames
    assert not facts(dicom(CT)).more_frames


def test_an_enhanced_object_says_it_by_frame():
    frames = np.stack([CT, CT[::-1]])
    rescale = item(RescaleIntercept=-1024, RescaleSlope=2, RescaleType="HU")
    groups = {
        "SharedFunctionalGroupsSequence": [item(PixelValueTransformationSequence=[rescale])],
        "PerFrameFunctionalGroupsSequence": [
            item(FrameVOILUTSequence=[item(WindowCenter=centre, WindowWidth=400)]) for centre in (40, 4000)
        ],
    }
    plain = dicom(CT, RescaleIntercept=-1024, RescaleSlope=2, WindowCenter=40, WindowWidth=400)
    np.testing.assert_array_equal(seen(dicom(frames, NumberOfFrames=2, **groups)), seen(plain))


def test_colours():
    np.testing.assert_array_equal(read_rgb(dicom(COLOURS, "RGB")), COLOURS)
    planes = dataset(COLOURS, "RGB")
    planes.PlanarConfiguration, planes.PixelData = 1, np.moveaxis(COLOURS, 2, 0).tobytes()
    np.testing.assert_array_equal(read_rgb(written(planes)), COLOURS)
    wide = COLOURS.astype(np.uint16) * 16
    np.testing.assert_array_equal(read_rgb(dicom(wide, "RGB", BitsStored=12)), COLOURS)
    ranged = read_rgb(dicom(wide, "RGB"), sample_range=(0, 1000))
    np.testing.assert_array_equal(ranged, each(wide, lambda value: value / 1000))
    grey = np.repeat(EIGHT[..., None], 3, axis=2)
    grey[..., 1:] = 128
    np.testing.assert_array_equal(read_rgb(dicom(grey, "YBR_FULL")), np.repeat(EIGHT[..., None], 3, axis=2))
    assert (facts(dicom(COLOURS, "RGB")).mode, facts(dicom(COLOURS, "RGB")).scaled_by) == ("RGB", "")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette(bits):
    entries = {name: RNG.integers(0, 2**bits, 256) for name in ("Red", "Green", "Blue")}
    made = dataset(EIGHT, "PALETTE COLOR")
    for name, own in entries.items():
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        made[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(made, f"{name}PaletteColorLookupTableData", own.astype("<u2" if bits == 16 else "u1").tobytes())
    expected = np.stack([own[EIGHT] >> (bits - 8) for own in entries.values()], axis=-1)
    np.testing.assert_array_equal(read_rgb(written(made)), expected)


def test_floating_point_pixels_need_a_window_or_a_range():
    samples = RNG.uniform(0, 1, (6, 8)).astype(np.float32)
    with pytest.raises(ImageError, match="floating-point numbers without a window; set sample_range"):
        read_rgb(dicom(samples))
    expected = each(samples, lambda value: value)
    np.testing.assert_array_equal(seen(dicom(samples), (0, 1)), expected)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=["implicit", "big endian"])
def test_other_plain_transfer_syntaxes(syntax):
    made = dataset(CT, BitsStored=12, WindowCenter=2000, WindowWidth=1000)
    expected = seen(written(made))
    made.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        made.PixelData = CT.astype(">u2").tobytes()
    content = written(made)
    assert open_image(io.BytesIO(content)).facts.bits == 12
    np.testing.assert_array_equal(seen(content), expected)


def test_a_table_of_bytes_in_the_other_byte_order():
    made = dataset(CT, VOILUTSequence=[item(LUTDescriptor=[4096, 0, 16], LUTData=b"")])
    made.VOILUTSequence[0]["LUTDescriptor"].VR = "US"
    made.VOILUTSequence[0].LUTData = (np.arange(4096) * 16).astype(">u2").tobytes()
    made.VOILUTSequence[0]["LUTData"].VR = "OW"
    made.PixelData = CT.astype(">u2").tobytes()
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    np.testing.assert_array_equal(seen(written(made)), CT >> 4)


def compressed(samples, syntax, frames, kind="MONOCHROME2", **elements):
    made = dataset(samples, kind, **elements)
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = syntax
    return written(made)


def encoded(samples, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, kind, **options)
    return stream.getvalue()


def test_compressed_pixels_that_are_decoded_here():
    made = dataset(CT, BitsStored=12)
    made.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(seen(written(made)), CT >> 4)
    np.testing.assert_array_equal(
        seen(compressed(CT, JPEG2000Lossless, [encoded(CT, "JPEG2000", no_jp2=True)], BitsStored=16)), CT >> 8
    )
    smooth = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    jpeg = compressed(smooth, JPEGBaseline8Bit, [encoded(smooth, "JPEG", quality=100)])
    assert np.abs(seen(jpeg).astype(int) - smooth).max() <= 2


def test_compressed_pixels_that_are_not_decoded_here_name_what_does():
    for syntax, name in ((JPEGLSLossless, "JPEG-LS"), (JPEGExtended12Bit, "JPEG Extended")):
        with pytest.raises(MissingPackageError, match=rf"compressed as {name}.*pylibjpeg.*or decompress the files"):
            read_rgb(compressed(CT, syntax, [bytes(40)], BitsStored=12))
    with pytest.raises(ImageError, match=r"compressed as MPEG-4 .*, which is not read; decompress the files"):
        read_rgb(compressed(EIGHT, MPEG4HP41, [bytes(40)]))


def test_a_compressed_image_larger_than_its_header_says_is_not_decompressed():
    frame = encoded(np.zeros((300, 400), np.uint8), "JPEG")
    with pytest.raises(ImageError, match="its compressed image has 400 x 300 pixels, its header says 8 x 6"):
        read_rgb(compressed(EIGHT, JPEGBaseline8Bit, [frame]))


def deflated():
    made = dataset(CT)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return written(made)


def without(*names, **changes):
    made = dataset(CT, **changes)
    for name in names:
        delattr(made, name)
    return written(made)


REFUSED = {
    "deflated": (deflated, "deflated as a whole, which is not read; decompress"),
    "no pixels": (lambda: without("PixelData"), "it is DICOM without an image"),
    "no size": (lambda: without("Rows"), "it is DICOM without an image"),
    "too large": (lambda: without(Rows=9000, Columns=9000), "9000 x 9000 pixels is more than the limit of 64 million"),
    "thin": (lambda: without(Rows=1, Columns=6000), "thinner than 1 to 5,000"),
    "too little": (lambda: without(Rows=60), "its pixels are cut off, damaged or of a kind that is not read"),
    "other colours": (lambda: without(PhotometricInterpretation="HSV"), "photometric interpretation 'HSV' is not read"),
    "no slope": (lambda: without(RescaleSlope=0, RescaleIntercept=0), "rescale slope is 0"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_usable_image_is_refused_by_name(make, reason):
    with pytest.raises(ImageError, match=rf"cannot read image \(bytes\): .*{reason}") as refused:
        read_rgb(make())
    assert "\n" not in str(refused.value)


def test_the_limit_of_pixels_is_inclusive():
    assert read_rgb(dicom(CT), max_pixels=48).shape == (6, 8, 3)
    with pytest.raises(ImageError, match="8 x 6 pixels is more than the limit"):
        read_rgb(dicom(CT), max_pixels=47)


def test_without_pydicom_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / "a.dcm").write_bytes(dicom(CT))
    for image in (dicom(CT), tmp_path / "a.dcm"):
        with pytest.raises(MissingPackageError, match=r"DICOM needs pydicom: pip install 'fedclip-plugin\[dicom\]'"):
            read_rgb(image)


def test_pydicom_is_loaded_for_dicom_only(tmp_path):
    Image.fromarray(EIGHT).save(tmp_path / "a.png")
    code = "import sys; from fedclip_edge.images import read_rgb; read_rgb('a.png'); print('pydicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_header_of_odd_values_warns_nobody(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(CT, PatientID="x", StudyDate="not a date"))
    code = "from fedclip_edge.images import read_rgb; print(read_rgb('a.dcm').shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("(6, 8, 3)", "")
