"""A silo's Ed25519 key and its roster of the others' public keys, on its own machine, where no recipe names them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_edge.bundle.keys import PublicKey, generate, public_half, sign
from fedclip_edge.errors import ExportError
from fedclip_edge.terminal import printable
from fedclip_plugin.errors import RecipeError, SiloKeysError
from fedclip_plugin.recipe.faults import Fault, recipe_error
from fedclip_plugin.recipe.schema.types import folder_name
from fedclip_plugin.recipe.yaml_reader import parse_yaml, read_plain
from fedclip_plugin.trust.operator_files import Places, require_own, require_secret

VARIABLE = "FEDCLIP_SILO_KEYS"
"""The environment variable that names the folder."""

MACHINE_PLACE = Path("/etc/fedclip/silo_keys")
"""The machine's folder: where it is there, no variable can put another in its place."""

USER_PLACE = Path("~/.config/fedclip/silo_keys")
"""Where a user's own folder is looked for, when there is no other."""

ROSTER = "roster.yaml"

_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WANTED = (
    "a roster has a line for each silo, such as: north: \"64 hexadecimal digits\"; 'fedclip silo-keys new' prints it"
)
_GROUP = 4
_FINGERPRINT_DIGITS = 32


@dataclass(frozen=True)
class SiloIdentity:
    """Who a silo is to the others: it signs with its own key, and knows theirs.

    Attributes
    ----------
    silo
        Its name.
    private
        The file of its private key; the key itself stays there.
    roster
        Name to public key of every silo, this one included.
    """

    silo: str
    private: Path
    roster: Mapping[str, PublicKey]

    def sign(self, content: bytes, context: bytes) -> bytes:
        """Return the 64-byte signature over some bytes, which is one in this context only."""
        with _errors():
            return sign(content, self.private, context)


def keys_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this machine's silo keys; where there is none yet, the one that would be looked in.

    Raises
    ------
    SiloKeysError
        The variable is empty, no full path, or names another folder where the machine has its own; or a place cannot
        be looked at.
    """
    places = _places()
    return places.find(environment) or places.users_own


def new_key(folder: Path, silo: str) -> PublicKey:
    """Make a silo's key: the private half in ``<silo>.key``, the public one in ``<silo>.key.pub``.

    Raises
    ------
    SiloKeysError
        The name cannot be that of a file, there is a key of the name already, or the folder cannot be written.
    """
    try:
        place = folder / f"{folder_name(silo)}.key"
    except ValueError as error:
        raise SiloKeysError(f"{printable(silo)!r} is no name of a silo: it {error}") from error
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SiloKeysError(
            f"{printable(str(folder))} cannot be made ({error.strerror}): make it, or let {VARIABLE} name another one"
        ) from error
    public = place.with_name(f"{place.name}.pub")
    if there := next((file for file in (place, public) if file.exists()), None):
        raise SiloKeysError(
            f"{printable(str(there))} exists, and a key is never overwritten: keep it, or "
            f"if it is lost or leaked remove {place.name} and {public.name}, make a new one, and replace the silo's "
            f"line in {ROSTER} on the machines of all silos"
        )
    with _errors():
        return generate(place)


def load_roster(folder: Path) -> dict[str, PublicKey]:
    """Read a folder's roster: silo to public key.

    Raises
    ------
    SiloKeysError
        It is missing, malformed, can be changed by others, has a value that is no key, or one key for two silos.
    """
    place = folder / ROSTER
    try:
        content = read_plain(place)
        require_own(place)
        raw, faults = parse_yaml(place, content, _WANTED)
        found: dict[str, PublicKey] = {}
        for silo, value in raw.items():
            if fault := _line_fault(silo, value, found):
                faults.append(fault)
            else:
                found[silo] = PublicKey(bytes.fromhex(value), place)
        if faults:
            raise recipe_error(place, faults)
    except RecipeError as error:
        raise SiloKeysError(f"SILO KEYS{str(error).removeprefix('RECIPE')}") from error
    except (OSError, ValueError) as error:
        raise _unusable(
            place, error, "write it, with a line for each silo that 'fedclip silo-keys new' prints"
        ) from error
    return found


def load_identity(folder: Path, silo: str) -> SiloIdentity:
    """Return who a silo of this machine is.

    Raises
    ------
    SiloKeysError
        As of :func:`load_roster`; or the silo's private key is missing, can be read or changed by others, or is not
        the half of the one on the roster.
    """
    place = folder / f"{silo}.key"
    try:
        require_secret(place)
    except (OSError, ValueError) as error:
        advice = f"'fedclip silo-keys new {printable(silo)}' makes one"
        raise _unusable(place, error, f"silo {printable(silo)} must have a key here; {advice}") from error
    roster = load_roster(folder)
    with _errors():
        own = public_half(place)
    if silo not in roster:
        raise SiloKeysError(f"{folder / ROSTER} lacks silo {printable(silo)}: add {roster_line(silo, own)}")
    if roster[silo] != own:
        raise SiloKeysError(
            f"{folder / ROSTER} has another key for silo {printable(silo)} ({fingerprint(roster[silo])}) than {place} "
            f"({fingerprint(own)}): put the right one in, on every machine"
        )
    return SiloIdentity(silo, place, roster)


def require_roster(identity: SiloIdentity, silos: tuple[str, ...]) -> None:
    """Refuse a recipe of whose silos the roster lacks one, with a SiloKeysError."""
    if lacking := [printable(silo) for silo in silos if silo not in identity.roster]:
        raise SiloKeysError(
            f"{identity.private.with_name(ROSTER)} lacks silos of the recipe: {', '.join(lacking)}; add the line that "
            "'fedclip silo-keys new' printed on their machines"
        )


def roster_line(silo: str, key: PublicKey) -> str:
    """Return a silo's line of the roster."""
    return f'{json.dumps(silo, ensure_ascii=False)}: "{key.raw.hex()}"'


def fingerprint(key: PublicKey) -> str:
    """Return what to compare a key by on the telephone: 128 bits of its SHA-256, in groups of four digits."""
    digits = hashlib.sha256(key.raw).hexdigest()[:_FINGERPRINT_DIGITS]
    return " ".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))


def places_told() -> str:
    """Return where the folder is looked for, as text."""
    return _places().told()


def _places() -> Places:
    return Places("folder of silo keys", VARIABLE, MACHINE_PLACE, USER_PLACE, SiloKeysError)


def _line_fault(silo: Any, value: Any, found: Mapping[str, PublicKey]) -> Fault | None:
    """Return what is wrong with a line of a roster, None when nothing is."""
    if type(silo) is not str:
        return Fault(str(silo), "is no name of a silo; put it in quotes")
    if type(value) is not str or not _KEY.fullmatch(value):
        return Fault(silo, "must be the 64 hexadecimal digits of a public key, in quotes", value)
    same = next((name for name, key in found.items() if key.raw.hex() == value), None)
    return None if same is None else Fault(silo, f"has the key of silo {same}; each silo needs its own", value)


def _unusable(place: Path, error: OSError | ValueError, advice: str) -> SiloKeysError:
    reason = getattr(error, "strerror", None) or str(error)
    return SiloKeysError(f"{printable(str(place))} cannot be used: {reason}; {advice}")


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what is wrong with a key's file as a SiloKeysError."""
    try:
        yield
    except ExportError as error:
        raise SiloKeysError(str(error)) from error
