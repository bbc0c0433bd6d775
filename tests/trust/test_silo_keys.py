"""A silo's key and roster: where they are found, who may change them, and what of them is refused."""

import pytest
import yaml

from fedclip_plugin.errors import SiloKeysError
from fedclip_plugin.federated.secure_sums.keys_check import require_keys
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.trust import silo_keys
from fedclip_plugin.trust.silo_keys import fingerprint, keys_folder, load_identity, load_roster, new_key, roster_line
from tests.support.secure_silos import write_keys

NAMES = ("north", "south", "east")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Return the machine's folder and the user's, neither of which is there."""
    machine, user = tmp_path / "etc", tmp_path / "home"
    monkeypatch.setattr(silo_keys, "MACHINE_PLACE", machine)
    monkeypatch.setattr(silo_keys, "USER_PLACE", user)
    return machine, user


@pytest.fixture
def folder(tmp_path):
    return write_keys(tmp_path / "keys", NAMES)


def test_the_folder_is_found_as_a_policy_is(places, tmp_path):
    machine, user = places
    assert keys_folder({}) == user, "where 'new' makes it"
    assert keys_folder({"FEDCLIP_SILO_KEYS": str(tmp_path)}) == tmp_path
    machine.mkdir()
    assert keys_folder({}) == machine
    with pytest.raises(SiloKeysError, match="which no variable replaces"):
        keys_folder({"FEDCLIP_SILO_KEYS": str(tmp_path)})


@pytest.mark.parametrize("named", ["", "keys", "./keys"])
def test_a_variable_that_names_nothing_is_refused(places, named):
    with pytest.raises(SiloKeysError, match="must be the full path of a folder of silo keys"):
        keys_folder({"FEDCLIP_SILO_KEYS": named})


def test_a_new_key_is_secret_and_never_overwritten(tmp_path):
    key = new_key(tmp_path / "keys", "north")
    place = tmp_path / "keys" / "north.key"
    assert place.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    before = place.read_bytes()
    with pytest.raises(
        SiloKeysError, match="exists, and a key is never overwritten: keep it, or if it is lost or leaked remove"
    ):
        new_key(tmp_path / "keys", "north")
    assert place.read_bytes() == before
    assert yaml.safe_load(roster_line("north", key)) == {"north": key.raw.hex()}
    assert len(fingerprint(key).split()) == 8


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\0b"])
def test_a_name_that_is_no_files_makes_no_key(tmp_path, name):
    with pytest.raises(SiloKeysError, match="is no name of a silo: it must be"):
        new_key(tmp_path, name)


@pytest.mark.parametrize("name", ["silo 1", "Zürich", "true", "0x10", "a: b", '"x"'])
def test_any_name_of_a_silo_survives_the_roster(tmp_path, name):
    key = new_key(tmp_path, name)
    (tmp_path / "roster.yaml").write_text(roster_line(name, key) + "\n", encoding="utf-8")
    assert load_identity(tmp_path, name).roster == {name: key}


def test_a_silo_knows_itself_and_the_others(folder):
    identity = load_identity(folder, "south")
    assert identity.roster.keys() == set(NAMES)
    signature = identity.sign(b"words", b"context")
    assert identity.roster["south"].verify(signature, b"words", b"context")
    assert not identity.roster["south"].verify(signature, b"words", b"other")
    assert not identity.roster["north"].verify(signature, b"words", b"context")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("- north", "holds a list"),
        ("north: 7", "north = 7: must be the 64 hexadecimal digits of a public key, in quotes"),
        (f'north: "{"g" * 64}"', "must be the 64 hexadecimal digits"),
        (f'north: "{"A" * 64}"', "must be the 64 hexadecimal digits"),
        (f'north: "{"a" * 63}"', "must be the 64 hexadecimal digits"),
        (f'north: "{"a" * 64}"\nsouth: "{"a" * 64}"', "has the key of silo north; each silo needs its own"),
        (f'north: "{"a" * 64}"\nnorth: "{"b" * 64}"', "north"),
        (f'7: "{"a" * 64}"', "is no name of a silo"),
        ("north: [", "malformed YAML"),
    ],
)
def test_a_roster_that_is_not_right_is_refused_with_all_its_faults(folder, text, told):
    (folder / "roster.yaml").write_text(text)
    with pytest.raises(SiloKeysError) as caught:
        load_roster(folder)
    assert told in str(caught.value)
    assert str(caught.value).startswith("SILO KEYS")


def test_what_others_can_change_or_read_is_not_taken(folder):
    roster, key = folder / "roster.yaml", folder / "north.key"
    roster.chmod(0o664)
    with pytest.raises(SiloKeysError, match=r"group \d+ can write .*roster.yaml"):
        load_identity(folder, "north")
    roster.chmod(0o644)
    for mode in (0o640, 0o604):
        key.chmod(mode)
        with pytest.raises(SiloKeysError, match=r"others can read .*north\.key; take that right away"):
            load_identity(folder, "north")
    key.chmod(0o600)
    folder.chmod(0o777)
    with pytest.raises(SiloKeysError, match="and so replace what it leads to"):
        load_identity(folder, "north")


def test_a_key_that_is_missing_foreign_or_damaged_is_named(folder):
    with pytest.raises(SiloKeysError, match=r"west\.key cannot be used: No such file.*'fedclip silo-keys new west'"):
        load_identity(folder, "west")
    new_key(folder, "west")
    with pytest.raises(SiloKeysError, match=r'lacks silo west: add "west": "[0-9a-f]{64}"'):
        load_identity(folder, "west")
    (folder / "south.key").write_bytes((folder / "north.key").read_bytes())
    with pytest.raises(SiloKeysError, match=r"has another key for silo south \(.*\) than .*south\.key"):
        load_identity(folder, "south")
    (folder / "south.key").write_bytes(b"no key")
    with pytest.raises(SiloKeysError, match="is not a private key that can sign"):
        load_identity(folder, "south")


@pytest.fixture
def recipe(workshop):
    return load_recipe(workshop.recipe("keys", fedclip_args__secure_sums=True))


def test_a_rank_looks_at_its_keys_before_it_encodes(recipe, tmp_path, monkeypatch, workshop):
    silos = recipe.silo_names()
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(tmp_path / "keys"))
    with pytest.raises(SiloKeysError, match="No such file"):
        require_keys(recipe, silos[0])
    write_keys(tmp_path / "keys", silos[:2])
    with pytest.raises(SiloKeysError, match=f"lacks silos of the recipe: {silos[2]}"):
        require_keys(recipe, silos[0])
    monkeypatch.setenv("FEDCLIP_SILO_KEYS", str(write_keys(tmp_path / "all", silos)))
    with pytest.raises(SiloKeysError, match="stranger"):
        require_keys(recipe, "stranger")
    unmasked = load_recipe(workshop.recipe("no_keys"))
    assert require_keys(recipe, silos[0]) is require_keys(unmasked, "stranger") is None
