"""The ``fedclip export`` command line: keys, bundles and updates, where the adapter was trained."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedclip_edge.arguments import path_argument
from fedclip_edge.bundle.manifest_schema import PRECISIONS
from fedclip_edge.errors import ExportError, FedClipError
from fedclip_edge.terminal import StreamError, printable, refusal, run_command
from fedclip_export import __version__

if TYPE_CHECKING:
    from fedclip_export.release import Release

_LARGEST = 2**53 - 1  # the largest whole number that every JSON reader keeps
_CENTURY = 36_500


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code.

    That is 0 when done, 1 when an export failed its checks, 2 for bad input or a disk that refuses, 130 when
    interrupted, 141 when the reader of the output left early.
    """
    return run_command(
        "fedclip-export", lambda: act(build_parser().parse_args(argv)), "interrupted; nothing half-made was left"
    )


def act(options: argparse.Namespace) -> int:
    """Run the command that was given to a parser which :func:`add` has filled; return its exit code."""
    try:
        print(options.export(options), flush=True)
    except (FedClipError, OSError) as error:
        if options.debug or isinstance(error, StreamError):
            raise
        # an export has no recipe, nor what an error advises for one
        text, code = (refusal(error), 2) if isinstance(error, OSError) else (error.text, error.exit_code)
        print(f"{options.program}: {printable(text)}", file=sys.stderr, flush=True)
        return code
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``fedclip-export``, which is ``fedclip export`` by another name."""
    parser = argparse.ArgumentParser(
        prog="fedclip-export", description="Turn a federated adapter into ONNX that any device can run and trust."
    )
    parser.add_argument("--version", action="version", version=f"fedclip-export {__version__}")
    add(parser)
    return parser


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands ``keygen``, ``bundle`` and ``update``."""
    parser.set_defaults(program=parser.prog)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", help="what to make")
    keygen = commands.add_parser("keygen", help="make a pair of Ed25519 keys to sign with")
    keygen.add_argument("path", type=path_argument, metavar="FILE", help="the private key; the public one is FILE.pub")
    keygen.set_defaults(export=_keygen)
    bundle = commands.add_parser("bundle", help="everything a device needs: preprocessing, encoder, head, manifest")
    update = commands.add_parser("update", help="a later round's head, for devices that have the bundle")
    _add_bundle(bundle)
    _add_update(update)
    examples = {
        keygen: "keys/release",
        bundle: "--adapter runs/demo/adapters/best --out bundle --sign keys/release",
        update: "--adapter runs/demo/adapters/final --against bundle --out update --sign keys/release",
    }
    for command, example in examples.items():
        command.epilog = f"example: %(prog)s {example}"
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _add_bundle(command: argparse.ArgumentParser) -> None:
    _add_release(command)
    command.add_argument(
        "--precision", choices=(*PRECISIONS, "auto"), default="fp32", help="of the encoder (default: fp32)"
    )
    command.add_argument(
        "--calibrate",
        type=path_argument,
        metavar="FOLDER",
        help="images of your own to calibrate int8 and to check with",
    )
    command.add_argument("--backbone", metavar="NAME", help="where the adapter's backbone is, if not where it was")
    command.add_argument("--external-data", action="store_true", help="the encoder's weights in a file of their own")
    command.set_defaults(export=_bundle)


def _add_update(command: argparse.ArgumentParser) -> None:
    _add_release(command)
    command.add_argument("--against", type=path_argument, required=True, metavar="BUNDLE", help="what the devices have")
    command.add_argument(
        "--store", choices=("fp32", "fp16"), default="fp32", help="how weights are stored; fp16 halves the size"
    )
    command.set_defaults(export=_update)


def _add_release(command: argparse.ArgumentParser) -> None:
    told = "such as runs/NAME/adapters/best, or OWNER/NAME that 'fedclip pull' has fetched"
    command.add_argument("--adapter", type=path_argument, required=True, help=told)
    command.add_argument(
        "--out", type=path_argument, required=True, metavar="FOLDER", help="what to write; must not exist"
    )
    command.add_argument("--sign", type=path_argument, metavar="KEY", help="private key that 'keygen' made")
    command.add_argument(
        "--next-key",
        dest="next_keys",
        type=path_argument,
        action="append",
        default=[],
        metavar="FILE",
        help="public key that devices hold from then on as well; may be repeated",
    )
    command.add_argument("--product", default="fedclip", help="devices of another product refuse it")
    command.add_argument("--sequence", type=_count, metavar="N", help="place in the order (default: UTC seconds)")
    command.add_argument("--valid-days", type=_days, metavar="N", help="days after which devices refuse it")


def _keygen(options: argparse.Namespace) -> str:
    from fedclip_edge.bundle import keys

    try:
        options.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{options.path.parent} cannot be made: {error.strerror}; give another place") from error
    public = keys.generate(options.path)
    return (
        f"{options.path}: private key, for --sign; keep it off the devices\n"
        f"{options.path}.pub: public key {public.id}, for every device's --key"
    )


def _bundle(options: argparse.Namespace) -> str:
    from fedclip_export.export_bundle import make_bundle

    names = ("precision", "calibrate", "backbone", "external_data")
    chosen = {name: getattr(options, name) for name in names}
    return make_bundle(options.adapter, options.out, _release(options), _tell, **chosen)


def _update(options: argparse.Namespace) -> str:
    from fedclip_export.export_update import make_update

    return make_update(options.adapter, options.against, options.out, options.store, _release(options))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _release(options: argparse.Namespace) -> Release:
    from fedclip_export.release import Release

    return Release(options.product, options.sequence, options.valid_days, options.sign, tuple(options.next_keys))


def _count(text: str, limit: int = _LARGEST) -> int:
    """Return a whole number from 1 to ``limit``."""
    if not text.isdecimal() or not 1 <= int(text) <= limit:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {limit}")
    return int(text)


def _days(text: str) -> int:
    """Return a number of days, at most a century."""
    return _count(text, _CENTURY)
