"""The ``fedclip`` command line."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module

from fedclip_edge.terminal import StreamError, message, refusal, run_command
from fedclip_plugin import __version__
from fedclip_plugin.errors import FedClipError

COMMANDS: Mapping[str, str] = {
    "launch": "check a recipe, print its mpirun command, and run it",
    "run": "be one rank of an mpirun job (launch does this for you)",
    "study": "run what is missing of a study in one mpirun job, and print its tables",
    "ls": "list the recipes that come with the package, or the methods",
    "validate": "check recipes; every fault is named at once",
    "check": "look through a folder of images: counts, bad files, duplicates",
    "doctor": "versions and clashes, MPI, GPU, caches",
    "evaluate": "score an adapter, and zero-shot CLIP, on a folder of images",
    "predict": "label images with an adapter; exit code 2 when one cannot be read",
    "export": "turn an adapter into ONNX for devices: keys, bundles, updates",
    "push": "publish an adapter on the Hugging Face hub, with a card",
    "pull": "fetch an adapter from the hub; then its name stands for it in every command",
    "report": "write a page of figures and tables, of a run or of a study",
}
"""Every command; its module is imported when it is given."""


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
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("--cf", "--yaml_config_file"):
        words = ["run", *words[1:]]  # FedML's spelling of the same
    options = build_parser(words[:1]).parse_args(words)
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
    parser = argparse.ArgumentParser(
        prog="fedclip", description="FedCLIP for FedML: one image classifier from many silos, no image leaves a silo."
    )
    parser.add_argument("--version", action="version", version=f"fedclip {__version__}")
    choices = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, text in COMMANDS.items():
        command = choices.add_parser(name, help=text)
        if name in commands:
            module = import_module(f"fedclip_plugin.cli.{name}")
            command.set_defaults(act=module.act)
            module.add(command)
            if name != "export":  # whose own commands have it
                command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def _home() -> str:
    """Return a home for who has none, such as a service: Open MPI ends without, and other libraries may too."""
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
