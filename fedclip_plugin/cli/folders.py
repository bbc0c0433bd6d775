"""``fedclip check``, ``fedclip sheet`` and ``fedclip pretrain``."""

from __future__ import annotations

from pathlib import Path

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import DataError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def check(folder: Path, progress: bool) -> int:
    """Print what is in a folder of images; return 0 when it can be used as it is, else 1.

    Parameters
    ----------
    folder
        ``<class>/<image>`` or ``<domain>/<class>/<image>``.
    progress
        Show a bar.

    Raises
    ------
    DataError
        When the folder is missing, or holds no class folders or no image.
    """
    from fedclip_plugin.data import check_folder

    report = check_folder(folder, progress=progress)
    if not report.total:
        raise DataError(
            f"{folder} holds no readable image in <class>/ or <domain>/<class>/: give the folder above those"
        )
    print(report.to_text())
    return 0 if report.ok else 1


def sheet(out: Path, per_cell: int) -> int:
    """Draw the contact sheet of the built-in data set; return the exit code.

    Parameters
    ----------
    out
        Picture to write.
    per_cell
        Images per class and domain.

    Raises
    ------
    DataError
        When the name does not say a format that pictures have.
    OSError
        When it cannot be written.
    """
    if out.suffix.lower() not in _PICTURES:
        raise DataError(f"{out}: the name of a picture must end in {', '.join(_PICTURES)}")
    from fedclip_edge.files import naming
    from fedclip_miniature import draw_sheet

    with naming(out):
        draw_sheet(out, per_cell=per_cell)
    print(printable(str(out)))
    return 0


def make_backbone(out: Path, seed: int, progress: bool) -> int:
    """Train clip-tiny from nothing and print what it scores without an adapter; return the exit code.

    Parameters
    ----------
    out
        Folder to write.
    seed
        Of drawings, initial weights and batches.
    progress
        Show bars.

    Raises
    ------
    DataError
        When ``out`` holds something that is not a backbone.
    """
    from transformers.utils.logging import disable_progress_bar

    from fedclip_miniature.pretraining import pretrain

    disable_progress_bar()  # transformers' own, over a file of 3 MB
    report = pretrain(out, seed=seed, progress=progress)
    told = f"{report.parameters:,} parameters after {report.steps:,} steps"
    print(f"{printable(str(out))}: {told}; held-out drawings", end=" ")
    print(f"{100 * report.held_out_accuracy:.1f} %; zero-shot on the miniature:")
    for domain, accuracy in report.zero_shot.items():
        print(f"  {domain:13} {100 * accuracy:.1f} %")
    return 0
