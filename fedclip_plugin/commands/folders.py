"""``fedclip check``, ``fedclip sheet`` and ``fedclip pretrain``."""

from __future__ import annotations

from pathlib import Path


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
        When the folder is missing or holds no class folders.
    """
    from fedclip_plugin.data import check_folder

    report = check_folder(folder, progress=progress)
    print(report.to_text())
    return 0 if report.ok else 1


def sheet(out: Path, per_cell: int) -> int:
    """Draw the contact sheet of the built-in data set; return the exit code.

    Parameters
    ----------
    out
        PNG to write.
    per_cell
        Images per class and domain.
    """
    from fedclip_plugin.miniature import draw_sheet

    print(draw_sheet(out, per_cell=per_cell))
    return 0


def make_backbone(out: Path, seed: int) -> int:
    """Train clip-tiny from nothing; return the exit code.

    Parameters
    ----------
    out
        Folder to write.
    seed
        Of drawing, initial weights and batches.
    """
    from fedclip_plugin.miniature.pretraining import pretrain

    print(pretrain(out, seed=seed))
    return 0
