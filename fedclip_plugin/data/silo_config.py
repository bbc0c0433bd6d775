"""FedML's ``data_silo_config``: one YAML file per silo, read by that silo's rank alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import ABSENT, Fault, recipe_error
from fedclip_plugin.recipe.schema.types import expand_user
from fedclip_plugin.recipe.yaml_reader import read_yaml

_PLACE = ("fedclip_args", "data_root")
_KEY = ".".join(_PLACE)
_WANTED = "data_silo_config lists one file per silo, each with 'fedclip_args: {data_root: /its/images}'"


def read_silo_root(config_files: Sequence[str | Path] | None, silo_index: int) -> Path | None:
    """Return the data root that a silo's own file gives, ``~`` and variables expanded; None without such files.

    The file has FedML's form, sections of keys (fedml/arguments.py, ``set_attr_from_config``), with one key::

        fedclip_args:
          data_root: /srv/images

    It replaces ``fedclip_args.data_root`` on that silo's machine; with the layout ``silos`` it is the folder of the
    silo's class folders itself. No other silo's file is opened.

    Raises
    ------
    DataError
        There is no file for this silo.
    RecipeError
        It cannot be read, is not YAML, is not made of sections, or does not hold ``data_root`` and nothing else.
    """
    if not config_files:
        return None
    if not 0 <= silo_index < len(config_files):
        raise DataError(
            f"data_silo_config lists {len(config_files)} files, so silo {silo_index + 1} has none; "
            "list one file per silo"
        )
    path = Path(config_files[silo_index])
    root = data_root_in(path)
    try:
        return Path(expand_user(root))
    except ValueError as error:
        raise recipe_error(path, [Fault(_KEY, str(error), root)]) from error


def data_root_in(path: Path) -> str:
    """Return the data root that a silo's file gives, as it is written there: ``~`` is that of the silo's machine.

    Errors as for `read_silo_root`, but for what only the silo's machine knows; every fault at once.
    """
    content, faults = read_yaml(path, _WANTED)
    root: Any = ABSENT
    for section, keys in content.items():
        if not isinstance(keys, dict):
            faults.append(Fault(str(section), f"must hold keys, as a section does; {_WANTED}", keys))
            continue
        for key, value in keys.items():
            if (section, key) == _PLACE:
                root = value
            else:
                faults.append(
                    Fault(
                        f"{section}.{key}",
                        f"is no key of a silo's own file, which has {_KEY} alone; others are the recipe's",
                        value,
                    )
                )
    if not faults and not isinstance(root, str):
        faults.append(Fault(_KEY, f"must be a path; {_WANTED}", root))
    if faults:
        raise recipe_error(path, faults)
    return str(root)
