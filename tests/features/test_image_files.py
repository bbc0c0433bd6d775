"""A file is known by its content; it is read again only where it may have changed."""

import hashlib
import os
import shutil

import numpy as np
import pytest

from fedclip_edge import files
from fedclip_plugin.data import UnreadableImageError, scan_folder
from fedclip_plugin.features import cache_parts, image_files
from fedclip_plugin.features.cache_parts import Part, Parts
from fedclip_plugin.features.encoding import Batch
from fedclip_plugin.features.image_files import ImageFiles


@pytest.fixture
def root(tmp_path):
    for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {name}".encode())
        os.utime(path, (1.6e9, 1.6e9))
    return tmp_path / "images"


def look(tmp_path, root):
    return ImageFiles(scan_folder(root, "silo"), Parts(tmp_path / "memory"), workers=2)


def read(tmp_path, root):
    """Let every file be read and remembered; return the digests by name."""
    files = look(tmp_path, root)
    names = files.missing(())
    digests = {index: image_files._hash(path) for index, path in enumerate(files.paths(names))}
    files.note(names, Batch({}, digests, {}))
    files.remember()
    return {name: files.digest(name) for name in files.images.files}


def exchange(root):
    for name in ("0.png", "1.png"):
        one, two, spare = root / "cat" / name, root / "dog" / name, root / "spare"
        one.rename(spare)
        two.rename(one)
        spare.rename(two)


def exchange_folders(root):
    (root / "cat").rename(root / "spare")
    (root / "dog").rename(root / "cat")
    (root / "spare").rename(root / "dog")


def overwrite(root):
    for path in root.rglob("*.png"):
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, (1.6e9, 1.6e9))


def unpack_elsewhere(root):
    shutil.copytree(root, root.parent / "copy")
    shutil.rmtree(root)
    (root.parent / "copy").rename(root)


def link(root):
    for path in root.rglob("*.png"):
        os.link(path, root.parent / f"{path.parent.name}-{path.name}")


CHANGES = {
    "nothing": (lambda root: None, 0),
    "files exchanged": (exchange, 4),
    "folders exchanged": (exchange_folders, 4),
    "other content, old times": (overwrite, 4),
    "a copy": (unpack_elsewhere, 4),
    "permissions": (lambda root: [path.chmod(0o600) for path in root.rglob("*.png")], 4),
    "new links": (link, 4),
    "touched": (lambda root: [path.touch() for path in root.rglob("*.png")], 4),
}


@pytest.mark.parametrize(("change", "hashed"), CHANGES.values(), ids=CHANGES)
def test_a_file_that_may_have_changed_is_hashed_once_and_known_by_its_content(
    tmp_path, root, monkeypatch, change, hashed
):
    read(tmp_path, root)
    change(root)
    seen = []
    hash_file = image_files._hash
    monkeypatch.setattr(image_files, "_hash", lambda path: seen.append(path) or hash_file(path))
    for _ in range(2):
        files = look(tmp_path, root)
        assert {name: files.digest(name) for name in files.images.files} == {
            name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in files.images.files
        }
    assert len(seen) == hashed, "the second time nothing changed"


def test_a_file_of_another_size_or_name_is_read_without_being_hashed(tmp_path, root, monkeypatch):
    known = set(read(tmp_path, root).values())
    (root / "dog" / "0.png").write_bytes(b"short")
    (root / "dog" / "1.png").rename(root / "dog" / "2.png")
    monkeypatch.setattr(image_files, "_hash", lambda path: pytest.fail("it was hashed"))
    assert look(tmp_path, root).missing(known) == ["dog/0.png", "dog/2.png"]


def test_an_unreadable_file_is_remembered_until_it_changes(tmp_path, root):
    files = look(tmp_path, root)
    names = files.missing(())
    faults = {0: UnreadableImageError(files.paths(names)[0], "no image")}
    gone = UnreadableImageError(files.paths(names)[1], "Input/output error")
    gone.__cause__ = OSError(5, "Input/output error")
    files.note(names, Batch({}, {2: "2" * 64, 3: "3" * 64}, faults | {1: gone}))
    files.remember()
    assert look(tmp_path, root).missing({"2" * 64, "3" * 64}) == [names[1]], "a disk may be mended"
    os.utime(root / names[0])
    assert look(tmp_path, root).missing({"2" * 64, "3" * 64}) == names[:2]


def test_a_memory_that_others_keep_serves_nevertheless(tmp_path, root, monkeypatch, caplog):
    before = read(tmp_path, root)
    unpack_elsewhere(root)

    def deny(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("fedclip_plugin.features.cache_parts.write_file", deny)
    assert look(tmp_path, root).missing(set(before.values())) == []
    assert "cannot be written (Permission denied)" in caplog.text


def rows(keys, value=0.0):
    return Part(list(keys), {"features": np.full((len(keys), 8), value, np.float32)})


def value(table, key):
    return float(table.rows([key], "features")[0, 0])


def test_what_is_added_is_written_once(tmp_path, monkeypatch):
    written = []

    def count(path, content):
        written.append(len(content))
        files.write_file(path, content)

    monkeypatch.setattr("fedclip_plugin.features.cache_parts.write_file", count)
    monkeypatch.setattr("fedclip_plugin.features.cache_parts._SMALL", 5)
    everything = {f"{number:032d}" for number in range(200)}
    table, names = Parts(tmp_path / "x"), sorted(everything)
    for start in range(0, 200, 10):
        table.add(rows(names[start : start + 10]), everything)
    whole = sum(path.stat().st_size for path in (tmp_path / "x").iterdir())
    assert sum(written) == whole
    assert Parts(tmp_path / "x").where.keys() == everything


def test_small_additions_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr("fedclip_plugin.features.cache_parts._SMALL", 5)
    keys = {str(number) for number in range(40)}
    for key in sorted(keys):
        Parts(tmp_path / "x").add(rows([key], float(key)), keys)
    found = Parts(tmp_path / "x")
    assert len(list((tmp_path / "x").iterdir())) == 8
    assert {key: value(found, key) for key in keys} == {key: float(key) for key in keys}
    found.add(rows(["new"]), {"new", "39"})
    assert len(list((tmp_path / "x").iterdir())) == 1, "files without a row of use are gone"
    assert Parts(tmp_path / "x").where.keys() == {"new", "39"}


def test_the_later_row_of_a_key_stands(tmp_path):
    for number in range(3):
        Parts(tmp_path / "x").add(rows("ab", number), set("ab"))
    assert [value(Parts(tmp_path / "x"), key) for key in "ab"] == [2.0, 2.0]


def test_two_jobs_add_at_once_and_neither_loses_what_it_wrote(tmp_path):
    Parts(tmp_path / "x").add(rows("ab", 1.0), set("abcdef"))
    one, two = Parts(tmp_path / "x"), Parts(tmp_path / "x")
    one.add(rows("cd", 2.0), set("abcdef"))
    two.add(rows("ef", 3.0), set("abcdef"))
    two.add(rows("e", 4.0), set("abcdef"))
    found = Parts(tmp_path / "x")
    assert {key: value(found, key) for key in "abcdef"} == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 4, "f": 3}


def test_a_file_that_goes_while_it_is_read_is_no_fault(tmp_path, monkeypatch):
    Parts(tmp_path / "x").add(rows("ab", 1.0), set("abc"))
    real, late = cache_parts._from_file, []

    def merge(path):
        if not late:
            late.append(path)
            Parts(tmp_path / "x").add(rows("c", 2.0), set("abc"))
        return real(path)

    monkeypatch.setattr(cache_parts, "_from_file", merge)
    assert Parts(tmp_path / "x").where.keys() == set("abc")


@pytest.mark.parametrize("harm", ["cut", "key", "value", "empty"])
def test_a_corrupt_file_loses_its_own_rows_only(tmp_path, monkeypatch, caplog, harm):
    monkeypatch.setattr("fedclip_plugin.features.cache_parts._SMALL", 1)
    for key in "abc":
        Parts(tmp_path / "x").add(rows([key * 20]), {"a" * 20, "b" * 20, "c" * 20})
    second = sorted((tmp_path / "x").iterdir())[1]
    good = second.read_bytes()
    bad = {"cut": good[:-9], "key": good.replace(b"bbb", b"zzz", 1), "value": good[:-1] + b"\1", "empty": b""}[harm]
    second.write_bytes(bad)
    found = Parts(tmp_path / "x")
    assert found.where.keys() == {"a" * 20, "c" * 20}
    assert f"{second} is corrupt" in caplog.text
    found.add(rows(["b" * 20]), {"a" * 20, "b" * 20, "c" * 20})
    assert not second.exists()
    assert len(Parts(tmp_path / "x").where) == 3


def test_what_a_killed_job_left_half_written_is_no_part_and_goes_after_a_while(tmp_path):
    Parts(tmp_path / "x").add(rows("a"), {"a", "b"})
    old, young = tmp_path / "x" / ".000002-old.safetensors.1.tmp", tmp_path / "x" / ".000002-young.safetensors.1.tmp"
    for left in (old, young):
        left.write_bytes(b"half")
    os.utime(old, (1.6e9, 1.6e9))
    found = Parts(tmp_path / "x")
    assert found.where.keys() == {"a"}
    found.add(rows("b"), {"a", "b"})
    assert (old.exists(), young.exists()) == (False, True)
