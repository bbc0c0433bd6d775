"""Keys are made once, kept to their owner, and say who signed."""

import hashlib
import os
import stat
import subprocess
import sys

import pytest

from fedclip_edge.bundle import keys
from fedclip_edge.errors import ExportError, MissingPackageError
from tests.support.paths import EDGE


def test_a_pair_is_made_for_its_owner_only(tmp_path):
    public = keys.generate(tmp_path / "k")
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert (tmp_path / "k.pub").read_bytes() == public.pem
    assert b"PRIVATE" in (tmp_path / "k").read_bytes() and b"PRIVATE" not in public.pem
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k", "k.pub"]


def test_the_id_is_the_hash_of_the_raw_key(tmp_path):
    from cryptography.hazmat.primitives import serialization

    public = keys.generate(tmp_path / "k")
    raw = serialization.load_pem_public_key(public.pem).public_bytes_raw()
    assert public.id == hashlib.sha256(raw).hexdigest()[:16]


def test_a_key_that_was_read_names_its_file(tmp_path):
    made = keys.generate(tmp_path / "k")
    (read,) = keys.load_public_keys([tmp_path / "k.pub"])
    assert read == made and read.path == tmp_path / "k.pub"


def test_a_signature_holds_for_these_bytes_and_this_key_only(tmp_path):
    mine, other = keys.generate(tmp_path / "mine"), keys.generate(tmp_path / "other")
    signature = keys.sign(b"manifest", tmp_path / "mine")
    assert len(signature) == 64 and signature == keys.sign(b"manifest", tmp_path / "mine")
    assert mine.verify(signature, b"manifest")
    assert not mine.verify(signature, b"manifesT")
    assert not other.verify(signature, b"manifest")
    assert not mine.verify(b"", b"manifest")


def test_a_signature_is_bound_to_its_purpose(tmp_path):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    public = keys.generate(tmp_path / "k")
    private = load_pem_private_key((tmp_path / "k").read_bytes(), None)
    assert not public.verify(private.sign(b"manifest"), b"manifest")
    assert public.verify(private.sign(b"fedclip-bundle-v1\0manifest"), b"manifest")


@pytest.mark.parametrize("taken", ["k", "k.pub"])
def test_a_key_is_never_overwritten(taken, tmp_path):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(ExportError, match="exists; keys are never overwritten"):
        keys.generate(tmp_path / "k")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "precious")]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ExportError, match="cannot be written: No such file"):
        keys.generate(tmp_path / "none" / "k")
    with pytest.raises(ExportError, match="cannot be read: No such file"):
        keys.load_public_keys([tmp_path / "none.pub"])


def test_several_keys_are_read_in_order(tmp_path):
    made = tuple(keys.generate(tmp_path / name) for name in "abc")
    assert keys.load_public_keys([tmp_path / f"{name}.pub" for name in "abc"]) == made
    assert keys.load_public_keys([]) == ()


def foreign_key(kind):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    key = {"ec": lambda: ec.generate_private_key(ec.SECP256R1()), "x25519": x25519.X25519PrivateKey.generate}[kind]()
    return (
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


@pytest.mark.parametrize("kind", ["ec", "x25519"])
def test_other_kinds_of_keys_are_refused(kind, tmp_path):
    private, public = foreign_key(kind)
    (tmp_path / "k").write_bytes(private)
    (tmp_path / "k.pub").write_bytes(public)
    with pytest.raises(ExportError, match="not an Ed25519 public key"):
        keys.load_public_keys([tmp_path / "k.pub"])
    with pytest.raises(ExportError, match="signed with Ed25519"):
        keys.sign(b"manifest", tmp_path / "k")


@pytest.mark.parametrize("damage", ["empty", "private", "cut", "twice", "letters"])
def test_a_file_that_is_no_public_key_is_named(damage, tmp_path):
    public = keys.generate(tmp_path / "k").pem
    content = {
        "empty": b"",
        "private": (tmp_path / "k").read_bytes(),
        "cut": public[:60],
        "twice": public * 2,
        "letters": public.replace(b"M", b"!", 1),
    }[damage]
    (tmp_path / "bad.pub").write_bytes(content)
    with pytest.raises(ExportError, match=r"bad\.pub is not an Ed25519 public key in PEM .*keygen"):
        keys.load_public_keys([tmp_path / "bad.pub"])


def test_of_a_file_with_both_halves_only_the_public_one_is_kept(tmp_path):
    public = keys.generate(tmp_path / "k")
    (tmp_path / "both.pem").write_bytes((tmp_path / "k").read_bytes() + b"note\n" + public.pem.replace(b"\n", b"\r\n"))
    (read,) = keys.load_public_keys([tmp_path / "both.pem"])
    assert read == public and read.pem == (tmp_path / "k.pub").read_bytes()


def test_a_pipe_is_no_key_and_a_link_is_one(tmp_path):
    public = keys.generate(tmp_path / "k")
    os.mkfifo(tmp_path / "pipe")
    for place in ("pipe", "."):
        with pytest.raises(ExportError, match=r"cannot be read: it is a (folder|named pipe), not a plain file"):
            keys.load_public_keys([tmp_path / place])
    (tmp_path / "link").symlink_to("k.pub")
    assert keys.load_public_keys([tmp_path / "link"]) == (public,)


def test_signing_with_something_else_is_refused(tmp_path):
    keys.generate(tmp_path / "k")
    with pytest.raises(ExportError, match=r"k\.pub is not a private key"):
        keys.sign(b"manifest", tmp_path / "k.pub")


def test_windows_line_ends_do_not_matter(tmp_path):
    public = keys.generate(tmp_path / "k")
    (tmp_path / "dos.pub").write_bytes(public.pem.replace(b"\n", b"\r\n"))
    assert keys.load_public_keys([tmp_path / "dos.pub"])[0].id == public.id


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    public = keys.generate(tmp_path / "k")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for act in (
        lambda: keys.load_public_keys([tmp_path / "k.pub"]),
        lambda: public.verify(b"", b""),
        lambda: keys.sign(b"", tmp_path / "k"),
        lambda: keys.generate(tmp_path),
    ):
        with pytest.raises(MissingPackageError, match=r"fedclip-edge\[verify\]"):
            act()


def test_the_package_needs_numpy_only():
    """Importing it brings no heavy package, and not even the optional ones."""
    heavy = ("torch", "transformers", "fedml", "onnx", "onnxruntime", "PIL", "cryptography", "fedclip_plugin")
    code = f"import sys, fedclip_edge.bundle; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=EDGE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
