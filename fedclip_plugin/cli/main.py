"""The ``fedclip`` command line."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fedclip_edge.terminal import StreamError, message, refusal, run_command
from fedclip_plugin import __version__
from fedclip_plugin.cli.command_table import COMMANDS, overview
from fedclip_plugin.cli.parser import CommandParser
from fedclip_plugin.errors import FedClipError

SELDOM = 50_000
"""New objects from one search for cycles to the next: more than a short command makes. After Python's own 700, a search
goes through what imports have made again and again, which takes a fifth of their time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Words after the program's name; None takes the process's own.

    Returns
    -------
    int
        Exit code: 0 done, 1 a federation stopped or a check found faults, 2 bad input or a disk that refuses, 130
        interrupted, 141 the reader of the output left early.
    """
    return run_command("fedclip", lambda: _act(argv))


def _act(argv: Sequence[str] | None) -> int:
    gc.set_threshold(SELDOM)
    atexit.register(skip_last_search)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # they are looked for in every installed package
    if "_ARGCOMPLETE" in os.environ:
        import_module("fedclip_plugin.cli.completion").complete()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("--cf", "--yaml_config_file"):
        words = ["run", *words[1:]]  # FedML's spelling of the same
    if not words:
        build_parser(()).print_help(sys.stderr)
        return 2
    after: list[str] = []
    if words[0] == "launch" and "--" in words:
        after = words[words.index("--") + 1 :]
        words = words[: words.index("--")]
    options = build_parser(words[:1]).parse_args(words)
    if after:
        options.mpirun_options = after
    if not os.environ.get("HOME"):
        os.environ["HOME"] = _home()
    try:
        _require_folder()
        return int(options.act(options))
    except (FedClipError, OSError) as error:
        if options.debug or isinstance(error, StreamError):
            raise
        print(message(f"fedclip: {_text(error, options)}"), file=sys.stderr, flush=True)
        return error.exit_code if isinstance(error, FedClipError) else 2


def build_parser(commands: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of some commands."""
    parser = CommandParser(
        prog="fedclip",
        usage="fedclip [-h] [--version] COMMAND ...",
        description="FedCLIP for FedML: one image classifier from many silos, no image leaves a silo.",
        epilog=overview(),
    )
    parser.add_argument("--version", action="version", version=f"fedclip {__version__}")
    choices = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", help=argparse.SUPPRESS)
    for name, told in COMMANDS.items():
        example = f"example:\n  {told.example}"
        command = choices.add_parser(name, prog=f"fedclip {name}", description=told.what, epilog=example)
        if name in commands:
            module = import_module(f"fedclip_plugin.cli.{name.replace('-', '_')}")
            command.set_defaults(act=module.act)
            module.add(command)
            if name != "export":  # whose own commands have it
                command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def skip_last_search() -> None:
    """Leave out Python's last search for cycles, which takes a fifth of a short command's time.

    Where torch or onnx is loaded it stays: it frees what they hold, and onnx complains of what is not freed.
    """
    if sys.modules.keys().isdisjoint(("torch", "onnx")):
        gc.freeze()


def _home() -> str:
    """Return a home for who has none, such as a service: Open MPI ends without, and other libraries may too."""
    import pwd
    import tempfile

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user without an entry, as in containers
        return tempfile.gettempdir()


def _require_folder() -> None:
    """Refuse to work in a folder that was removed: some libraries end the process when they cannot tell where it is."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise FedClipError("the folder in which this was started was removed meanwhile: change to another") from None


def _text(error: FedClipError | OSError, options: argparse.Namespace) -> str:
    """Return what an error says, without advice on recipes where the command has none."""
    if isinstance(error, OSError):
        return refusal(error)
    return error.text if options.command in ("evaluate", "predict") else str(error)
