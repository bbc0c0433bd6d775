"""FedML's ``data_silo_config``: one YAML file per silo, read by that silo's rank alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.values import expand_user


def read_silo_root(config_files: Sequence[str | Path] | None, silo_index: int) -> Path | None:
    """Return the data root that a silo's own file gives.

    The file has FedML's form, sections of keys (fedml/arguments.py, ``set_attr_from_config``), with one key::

        fedclip_args:
          data_root: /srv/images

    It replaces ``fedclip_args.data_root`` on that silo's machine; with the layout ``silos`` it is the folder
    of the silo's class folders itself.

    Parameters
    ----------
    config_files
        ``data_args.data_silo_config``: one path per silo, relative to the working directory; None when not
        used.
    silo_index
        0-based position of the silo. No other silo's file is opened.

    Returns
    -------
    Path or None
        The folder, ``~`` and environment variables expanded; None when there is no such list of files.

    Raises
    ------
    DataError
        There is no file for this silo, or it cannot be read, is not YAML, is not made of sections, or does
        not hold ``data_root`` and nothing else.
    """
    if not config_files:
        return None
    if not 0 <= silo_index < len(config_files):
        raise DataError(
            f"data_silo_config lists {len(config_files)} files, so silo {silo_index + 1} has none; "
            "list one file per silo"
        )
    path = Path(config_files[silo_index])
    entries = [entry for keys in _read_sections(path).values() for entry in keys.items()]
    if [key for key, _ in entries] != ["data_root"] or not isinstance(entries[0][1], str):
        raise DataError(
            f"{path} of data_silo_config must give data_root, a path, and nothing else (other keys belong "
            f"into the recipe); it gives: {', '.join(str(key) for key, _ in entries) or 'nothing'}"
        )
    try:
        return Path(expand_user(entries[0][1]))
    except ValueError as error:
        raise DataError(f"data_root in {path}: {error}") from error


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path} of data_silo_config: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} of data_silo_config is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(keys, dict) for keys in content.values()):
        raise DataError(
            f"{path} of data_silo_config must be made of sections, as FedML's files are; "
            "write 'fedclip_args:' and, indented below it, 'data_root: /path/to/images'"
        )
    return content
