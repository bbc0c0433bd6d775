"""DICOM files written by pydicom, with as much of a header as an image needs."""

import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def dataset(samples, kind="MONOCHROME2", **elements):
    """Return a dataset with samples ``[H, W]``, ``[F, H, W]`` of ``NumberOfFrames``, or ``[H, W, 3]`` of colours."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.SOPInstanceUID = "1.2.3"
    colours = 3 if samples.ndim == 3 and "NumberOfFrames" not in elements else 1
    made.Rows, made.Columns = samples.shape[:2] if colours == 3 else samples.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = colours, kind
    if colours == 3:
        made.PlanarConfiguration = 0
    if samples.dtype.kind in "ui":
        made.BitsAllocated = made.BitsStored = 8 * samples.dtype.itemsize
        made.PixelRepresentation = int(samples.dtype.kind == "i")
        made.PixelData = samples.tobytes() + b"\0" * (samples.nbytes % 2)
        made["PixelData"].VR = "OW" if samples.dtype.itemsize > 1 else "OB"
    else:
        made.BitsAllocated = 8 * samples.dtype.itemsize
        made.FloatPixelData = samples.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    made.HighBit = made.get("BitsStored", 1) - 1
    return made


def written(made, **options):
    """Return a dataset as a file's bytes."""
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True, **options)
    return stream.getvalue()


def dicom(samples, kind="MONOCHROME2", **elements):
    """Return a DICOM file; see `dataset`."""
    return written(dataset(np.asarray(samples), kind, **elements))


def item(**elements):
    """Return a dataset for a sequence."""
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made
