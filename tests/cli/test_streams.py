"""What every command does with its standard streams: names, closed and full streams, errors of the disk."""

import errno
import io
import logging
import os
import subprocess
import sys

import pytest

from fedclip_edge import terminal
from fedclip_edge.errors import BundleError
from fedclip_edge.files import append_line, write_file, write_folder
from fedclip_edge.terminal import SafeStream, StreamError, align, message, printable, refusal, run_command
from fedclip_plugin.cli import main
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.text import markdown

NASTY = "a\x1b]0;owned\x07b\rc\u202ed\x9b2Je\udcff"
HARMLESS = "a\\x1b]0;owned\\x07b\\rc\\u202ed\\x9b2Je\\udcff"


class Refusing(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def flush(self):
        raise self.error


def console(encoding):
    raw = io.BytesIO()
    return io.TextIOWrapper(raw, encoding=encoding, write_through=True), raw


@pytest.mark.parametrize(("encoding", "house"), [("ascii", "\\u5bb6"), ("utf-8", "家"), ("latin-1", "\\u5bb6")])
@pytest.mark.parametrize("bars", [False, True])
def test_a_stream_escapes_what_a_terminal_obeys_and_what_it_cannot_show(encoding, house, bars):
    stream, raw = console(encoding)
    print("家", NASTY, "tab\tand", "line", sep="\n", file=SafeStream(stream, "it", bars))
    assert raw.getvalue().decode(encoding) == f"{house}\n{HARMLESS}\ntab\tand\nline\n"


def test_bars_move_and_names_do_not(monkeypatch):
    stream, raw = console("utf-8")
    safe = SafeStream(stream, "standard error", bars=True)
    for text in ("\r50%|#####", "\n\x1b[A\x1b[A", "x\x1b[A", "\rname \x1b[2J"):
        safe.write(text)
    assert raw.getvalue() == b"\r50%|#####" + b"\n\x1b[A\x1b[A" + b"x\\x1b[A" + b"\rname \\x1b[2J"


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, "fedclip: interrupted\n"),
        (StreamError("no"), 2, "fedclip: no\n"),
    ],
)
def test_a_command_ends_with_a_code_and_a_line(capsys, raised, code, told):
    def command():
        if raised:
            raise raised
        return 0

    assert run_command("fedclip", command) == code
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "standard output cannot be written: No space left"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
@pytest.mark.parametrize("words", [["ls"], ["--help"], ["validate", "miniature/clip_tiny_fedclip"]])
def test_output_that_goes_nowhere_is_one_line_or_none(monkeypatch, capsys, error, code, told, words):
    monkeypatch.setattr(sys, "stdout", Refusing(error))
    assert main.main(words) == code
    err = capsys.readouterr().err
    assert told in err and len(err.splitlines()) == bool(told)


def test_closed_streams(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main.main(["ls"]) == 2
    assert capsys.readouterr().err == "fedclip: standard output is closed; send it to a file, or to /dev/null\n"
    monkeypatch.setattr(sys, "stderr", None)
    assert main.main(["ls"]) == 2  # and no word, for nobody listens
    sys.stderr.close()


@pytest.mark.parametrize(
    ("words", "redirected", "code"),
    [("ls", ">/dev/full", 2), ("ls", ">&-", 2), ("validate nowhere.yaml", "2>&-", 2), ("ls", "2>/dev/full", 0)],
)
def test_the_process_itself_leaves_no_traceback(words, redirected, code, tmp_path):
    line = f"{sys.executable} -m fedclip_plugin {words} {redirected}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_names_reach_a_console_that_has_no_letters_for_them(tmp_path):
    folder = tmp_path / "häuser"
    done = subprocess.run(
        [sys.executable, "-m", "fedclip_plugin", "check", str(folder)],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        capture_output=True,
    )
    assert done.returncode == 2 and b"h\\xe4user does not exist" in done.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device; free space there"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: Read-only file system; it lies on a read-only file"),
        (OSError(errno.EACCES, "Permission denied", b"a"), "a: Permission denied; give this user the right"),
        (OSError(errno.ENOTDIR, "Not a directory", "a", None, "b"), "a -> b: Not a directory; a part of the path"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error; mend that"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free space there"),
        (OSError("odd"), "odd; mend that"),
    ],
)
def test_what_the_system_refuses_is_a_path_its_words_and_a_remedy(monkeypatch, capsys, error, told):
    assert refusal(error).startswith(told)

    def fail():
        raise error

    monkeypatch.setattr("fedclip_plugin.cli.ls.recipe_files", fail)
    assert main.main(["ls"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fedclip: {told}") and len(err.splitlines()) == 1
    with pytest.raises(OSError):
        main.main(["ls", "--debug"])


def test_an_error_of_the_device_side_ends_a_command_as_one_line_with_its_exit_code(monkeypatch, capsys):
    def fail():
        raise BundleError("hash", "bundle/head.onnx is not as listed")

    monkeypatch.setattr(main, "_require_folder", fail)
    assert main.main(["ls"]) == BundleError.exit_code == 1
    assert capsys.readouterr().err == "fedclip: bundle/head.onnx is not as listed\n"


def test_a_full_disk_is_named_by_what_was_written(tmp_path):
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        append_line(full, "x")
    assert caught.value.filename == str(full)


@pytest.mark.parametrize("write", [lambda p: write_file(p / "f", b"x"), lambda p: write_folder(p / "d", {"f": b"x"})])
def test_a_write_that_fails_half_way_names_the_file(tmp_path, monkeypatch, write):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError) as caught:
        write(tmp_path)
    assert str(caught.value.filename).startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_message_is_one_message_whatever_is_in_it(capsys):
    assert message("bad name x\nfedclip: all is well\n  as it was") == "bad name x\n  fedclip: all is well\n  as it was"
    assert printable("two\nlines") == "two\\nlines"
    assert main.main(["validate", "no\nfedclip: all is well\x1b[2J"]) == 2
    told = capsys.readouterr().err
    assert not any(line.startswith("fedclip: all") for line in told.splitlines()) and "\x1b" not in told


@pytest.mark.parametrize("name", [NASTY, "x\n2026-01-01 00:00:00,000 INFO fedclip_plugin: silo b left"])
def test_no_name_forges_a_line_of_a_log(tmp_path, capsys, name):
    with log_to(tmp_path, 1):
        logging.getLogger("fedclip_plugin.sample").warning("skipped: %s", name)
    lines = (tmp_path / "rank_1.log").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if not line.startswith("  ")]) == 1
    assert all(line.isprintable() for line in lines)
    assert "Traceback" not in capsys.readouterr().err


def test_tables_hold_any_cell():
    rows = [["name", "n"], [f"{NASTY}\n", "1"], ["b|`c`<script>[x](http://y)", "2"]]
    assert HARMLESS in align(rows) and len(align(rows).splitlines()) == 4
    text = markdown(rows)
    assert len(text.splitlines()) == 4
    assert "b\\|\\`c\\`&lt;script&gt;[x]\\(http://y)" in text


def test_say_at_once_speaks_the_console_s_encoding(capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", console("ascii")[0])
    terminal.say_at_once("fedclip: é\udcff")
    assert capfd.readouterr().err == "fedclip: \\xe9\\udcff\n"
