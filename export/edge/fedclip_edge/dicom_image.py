"""DICOM files as images: rescaled, windowed, upright RGB, by pydicom.

The order is that of DICOM PS3.4, N.2: stored values, modality rescale or LUT, window or VOI LUT; then MONOCHROME1 is
inverted.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.image_file import ImageFacts, ImageFile, check_size, hush
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.sample_scaling import BY_RANGE, VOI_TABLE, WINDOW, Fraction, Scale, to_levels

if TYPE_CHECKING:
    from PIL import Image

Values: TypeAlias = NDArray[np.float64]
Dataset: TypeAlias = Any
"""Of pydicom: what a DICOM file holds, by keyword."""

HEAD: int = 132
"""Bytes by which a DICOM file is known: a preamble, and ``DICM``."""

_GREY, _PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_DEFLATED, _JPEG_12_BIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.51"
_PER_FRAME = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_DECOMPRESS = "decompress the files, as gdcmconv --raw or dcmconv does"
_ITEM_HEADER = 12  # bytes before the value of encapsulated pixels: tag, VR, length


def is_dicom(head: bytes) -> bool:
    """Return whether a file that begins like this is DICOM."""
    return head[HEAD - 4 : HEAD] == b"DICM"


def open_dicom(stream: BinaryIO, max_pixels: int, sample_range: SampleRange | None) -> ImageFile:
    """Open a DICOM file; what its header says is checked, and its pixels are not read yet.

    Raises
    ------
    ValueError
        It holds no image, one beyond the limits, or one that cannot be shown.
    MissingPackageError
        pydicom is missing, or a package that decompresses its pixels.
    """
    pydicom = _pydicom()
    _refuse_deflated(stream)
    stream.seek(0)
    dataset = pydicom.dcmread(stream, stop_before_pixels=True)
    start = stream.tell()
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int) or not stream.read(1):
        raise ValueError(
            "it is DICOM without an image (no pixels, or no Rows and Columns), or cut off; leave such files out"
        )
    check_size(columns, rows, max_pixels)
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind not in (*_GREY, *_COLOURS, _PALETTE):
        raise ValueError(f"its photometric interpretation {kind!r} is not read; convert it to MONOCHROME2 or RGB")
    _require_decoder(dataset)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _require_size_of_frame(stream, start + _ITEM_HEADER, (columns, rows), _frames(dataset))
    view = _View.of(_of_first_frame(dataset), kind, sample_range)
    facts = ImageFacts("DICOM", kind, max(8, view.bits), view.rule, _frames(dataset) > 1)
    return ImageFile(facts, partial(_decode, stream, dataset, kind, view))


def _pydicom() -> Any:
    hush("pydicom")
    hush("requests", Warning)  # which pydicom imports, and which complains of other packages' versions
    try:
        import PIL.Image  # noqa: F401  what is made of it is a PIL image
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise MissingPackageError(
            "DICOM needs pydicom: pip install 'fedclip-plugin[dicom]', on a device 'fedclip-edge[dicom]'"
        ) from error
    return pydicom


def _refuse_deflated(stream: BinaryIO) -> None:
    """Refuse a file that is deflated as a whole: pydicom inflates it, however large, before its size can be read."""
    from pydicom.filereader import read_dataset

    stream.seek(HEAD)
    group_2 = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = group_2.get("TransferSyntaxUID")
    if not syntax:
        raise ValueError("it is DICOM that does not name its transfer syntax; convert it")
    if syntax == _DEFLATED:
        raise ValueError(f"it is DICOM that is deflated as a whole, which is not read; {_DECOMPRESS}")


def _require_decoder(dataset: Dataset) -> None:
    """Refuse pixels that nothing which is installed decompresses, by name, and with what does."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ValueError(f"its pixels are compressed as {syntax.name}, which is not read; {_DECOMPRESS}") from error
    of_12_bits = syntax == _JPEG_12_BIT and dataset.get("BitsStored") != 8 and decoder.available_plugins == ("pillow",)
    if not decoder.is_available or of_12_bits:
        raise MissingPackageError(
            f"its pixels are compressed as {syntax.name}, which needs one of: "
            f"{', '.join(decoder.missing_dependencies)}; pip install 'pylibjpeg[all]', or {_DECOMPRESS}"
        )


def _require_size_of_frame(stream: BinaryIO, start: int, size: tuple[int, int], frames: int) -> None:
    """Refuse a compressed frame that is not of the size which the header gives, before it is decompressed."""
    from PIL import Image, UnidentifiedImageError
    from pydicom.encaps import get_frame

    stream.seek(start)
    try:
        found = Image.open(io.BytesIO(get_frame(stream, 0, number_of_frames=frames)), formats=("JPEG", "JPEG2000")).size
    except UnidentifiedImageError:  # RLE, JPEG-LS: by what decompresses it
        return
    if found != size:
        told = f"{found[0]} x {found[1]} pixels, its header says {size[0]} x {size[1]}"
        raise ValueError(f"its compressed image has {told}; take the file from where it was made")


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _of_first_frame(dataset: Dataset) -> Dataset:
    """Return what holds for the first frame: of an enhanced object, what its functional groups say of it too."""
    from pydicom.dataset import Dataset as Merged

    merged = Merged()
    merged.update(dataset)
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for name in _PER_FRAME:
            for item in list((dataset.get(groups) or [{}])[0].get(name) or [])[:1]:
                merged.update(item)
    return merged


@dataclass(frozen=True)
class _Table:
    """A look-up table of DICOM: from values, whole numbers, to output of `bits` bits."""

    first: int
    bits: int
    output: Values

    @classmethod
    def of(cls, item: Dataset) -> _Table:
        """Return the table of an item of a LUT sequence; ValueError where it is none."""
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        if isinstance(data, bytes):
            words = ">u2" if item.original_encoding[1] is False else "<u2"
            data = np.frombuffer(data, np.uint8 if len(data) == (count or 65536) else words)
        output = np.atleast_1d(np.asarray(data, np.float64))[: count or 65536]
        if not len(output) or not 0 < bits <= 16:
            raise ValueError(f"its LUT has {len(output)} entries of {bits} bits")
        return cls(first, bits, output)

    def __call__(self, values: Values) -> Values:
        indices = np.clip(np.floor(values) - self.first, 0, len(self.output) - 1)
        return self.output[indices.astype(np.intp)]


@dataclass(frozen=True)
class _View:
    """How stored values become brightness."""

    bits: int
    rule: str  # what it is told as; empty where 8 bits need none
    fraction: Fraction

    @classmethod
    def of(cls, dataset: Dataset, kind: str, sample_range: SampleRange | None) -> _View:
        """Return how the image of a dataset is shown; ValueError where it does not say it."""
        bits = dataset.get("BitsStored") or int(dataset.get("BitsAllocated") or 0)
        whole = "BitsStored" in dataset
        stored = Scale.of_bits(bits, dataset.get("PixelRepresentation") == 1) if whole else None
        given = Scale(*sample_range, BY_RANGE) if sample_range is not None and bits > 8 else None
        if kind not in _GREY:
            scale = Scale.of_bits(16) if kind == _PALETTE else given or stored or Scale.of_bits(8)
            return cls(bits, scale.rule if bits > 8 and kind != _PALETTE else "", scale.fraction)
        rescale, whole_range = _modality(dataset, stored)
        if voi := _window(dataset) or _voi_table(dataset):
            rule, shown = voi
        elif used := given or whole_range:
            rule, shown = used.rule if bits > 8 else "", used.fraction
        else:
            raise ValueError(
                "its samples are floating-point numbers without a window; set sample_range (fedclip_args.sample_range "
                "in a recipe), such as [0, 1]"
            )
        return cls(bits, rule, lambda values: shown(rescale(values)))


def _modality(dataset: Dataset, stored: Scale | None) -> tuple[Fraction, Scale | None]:
    """Return what makes the modality's values (of CT: Hounsfield units) of stored ones, and the ends of all of them."""
    items: Sequence[Dataset] = dataset.get("ModalityLUTSequence") or ()
    if items:
        table = _Table.of(items[0])
        return table, Scale.of_bits(table.bits)
    slope, intercept = (_number(dataset, name, usual) for name, usual in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    if not slope:
        raise ValueError("its rescale slope is 0, which makes all its values equal")

    def rescale(values: Values) -> Values:
        """Return the modality's values of stored ones."""
        return slope * values + intercept

    if stored is None:
        return rescale, None
    low, high = sorted(slope * end + intercept for end in (stored.low, stored.high))
    return rescale, Scale(low, high, stored.rule)


def _window(dataset: Dataset) -> tuple[str, Fraction] | None:
    """Return the first window of a dataset, by the formulas of DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if dataset.get("WindowCenter") in (None, "", []) or dataset.get("WindowWidth") in (None, "", []):
        return None
    centre, width = _number(dataset, "WindowCenter", 0), _number(dataset, "WindowWidth", 0)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    least = 1.0 if function == "LINEAR" else np.nextafter(0, 1)
    if function not in _FUNCTIONS or width < least:
        raise ValueError(f"its window of width {width:g} and function {function} is none of DICOM's; mend its header")
    return WINDOW, lambda values: _FUNCTIONS[function](values, centre, width)


def _linear(values: Values, centre: float, width: float) -> Values:
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _linear_exact(values: Values, centre: float, width: float) -> Values:
    return (values - centre) / width + 0.5


def _sigmoid(values: Values, centre: float, width: float) -> Values:
    with np.errstate(over="ignore"):
        found: Values = 1 / (1 + np.exp(-4 * (values - centre) / width))
    return found


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}


def _voi_table(dataset: Dataset) -> tuple[str, Fraction] | None:
    items: Sequence[Dataset] = dataset.get("VOILUTSequence") or ()
    if not items or "LUTData" not in items[0]:
        return None
    table = _Table.of(items[0])
    return VOI_TABLE, lambda values: Scale.of_bits(table.bits).fraction(table(values))


def _number(dataset: Dataset, name: str, usual: float) -> float:
    """Return a number of a dataset, the first where there are several."""
    found = dataset.get(name)
    if found in (None, "", []):
        return usual
    number = float(found if isinstance(found, str | int | float) else found[0])
    if not np.isfinite(number):
        raise ValueError(f"its {name} is {number}")
    return number


def _decode(stream: BinaryIO, dataset: Dataset, kind: str, view: _View) -> Image.Image:
    from PIL import Image
    from pydicom.pixels import apply_color_lut, pixel_array

    stream.seek(0)
    try:
        samples = pixel_array(stream, index=0)  # colours come as RGB
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # bad bytes make pydicom raise ValueError, RuntimeError, AttributeError, struct.error ...
        raise ValueError(f"its pixels are cut off, damaged or of a kind that is not read ({error})") from error
    if kind in _GREY:
        levels = to_levels(samples, view.fraction)
        if kind == "MONOCHROME1":
            np.subtract(255, levels, out=levels)
        return Image.fromarray(levels).convert("RGB")
    if kind == _PALETTE:
        samples = apply_color_lut(samples, dataset)
        levels = samples if samples.dtype == np.uint8 else to_levels(samples, view.fraction)
    else:
        levels = to_levels(samples, view.fraction)
    return Image.fromarray(np.ascontiguousarray(levels[..., :3]))
