"""FedML's ``data_silo_config``: one YAML file per silo, read by that silo's rank alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import Fault, recipe_error
from fedclip_plugin.recipe.schema.types import expand_user
from fedclip_plugin.recipe.yaml_reader import read_yaml

_SECTION, _KEYS = "fedclip_args", ("data_root", "data_list")
_WANTED = "data_silo_config lists one file per silo, each with 'fedclip_args: {data_root: /its/images}'"


@dataclass(frozen=True)
class SiloPlace:
    """Where a silo's own file says that its images are; None: as the recipe says."""

    data_root: Path | None = None
    data_list: Path | None = None


def read_silo_place(config_files: Sequence[str | Path] | None, silo_index: int) -> SiloPlace:
    """Return what a silo's own file gives, ``~`` and variables expanded; nothing without such files.

    The file has FedML's form, sections of keys (fedml/arguments.py, ``set_attr_from_config``), with one of two keys or
    both::

        fedclip_args:
          data_root: /srv/images
          data_list: /srv/images.csv

    They replace those of the recipe on that silo's machine; with the layout ``silos`` the root is the folder of the
    silo's class folders itself. No other silo's file is opened.

    Raises
    ------
    DataError
        There is no file for this silo.
    RecipeError
        It cannot be read, is not YAML, is not made of sections, or does not hold these keys and nothing else.
    """
    if not config_files:
        return SiloPlace()
    if not 0 <= silo_index < len(config_files):
        raise DataError(
            f"data_silo_config lists {len(config_files)} files, so silo {silo_index + 1} has none; "
            "list one file per silo"
        )
    path = Path(config_files[silo_index])
    found = dict[str, Path]()
    for key, text in places_in(path).items():
        try:
            found[key] = Path(expand_user(text))
        except ValueError as error:
            raise recipe_error(path, [Fault(f"{_SECTION}.{key}", str(error), text)]) from error
    return SiloPlace(**found)


def places_in(path: Path) -> dict[str, str]:
    """Return what a silo's file gives, as it is written there: ``~`` is that of the silo's machine.

    Errors as for `read_silo_place`, but for what only the silo's machine knows; every fault at once.
    """
    content, faults = read_yaml(path, _WANTED)
    found: dict[str, Any] = {}
    for section, keys in content.items():
        if not isinstance(keys, dict):
            faults.append(Fault(str(section), f"must hold keys, as a section does; {_WANTED}", keys))
            continue
        for key, value in keys.items():
            if section == _SECTION and key in _KEYS:
                found[key] = value
            else:
                rule = f"is no key of a silo's own file, which has {_SECTION}.{' and '.join(_KEYS)} alone"
                faults.append(Fault(f"{section}.{key}", f"{rule}; others are the recipe's", value))
    if not faults and not found:
        faults.append(Fault(f"{_SECTION}.data_root", f"is required; {_WANTED}"))
    faults += [
        Fault(f"{_SECTION}.{key}", f"must be a path; {_WANTED}", value)
        for key, value in found.items()
        if not isinstance(value, str)
    ]
    if faults:
        raise recipe_error(path, faults)
    return found
