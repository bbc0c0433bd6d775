"""Parser and entry of ``fedclip-edge``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from fedclip_edge import __version__
from fedclip_edge.arguments import path_argument
from fedclip_edge.cli import commands, site_commands
from fedclip_edge.cli.edge_doctor import doctor
from fedclip_edge.cli.printing import print_json
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.runtime.providers import CHOICES
from fedclip_edge.terminal import StreamError, printable, refusal, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns 0 when done; 1 when a bundle or an update was refused, or the doctor found a fault; 2 for bad input, an
    image that could not be read (the others are answered), or output that cannot be written; 130 when interrupted; 141
    when the reader of stdout left early.
    """
    return run_command("fedclip-edge", lambda: _act(argv))


def _act(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    try:
        return int(options.act(options))
    except (ExportError, OSError) as error:
        if options.debug or isinstance(error, StreamError):
            raise
        return _report(error, options.json)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fedclip-edge", description="Serve and update a signed FedCLIP bundle where onnxruntime is all there is."
    )
    parser.add_argument("--version", action="version", version=f"fedclip-edge {__version__}")
    adder = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = _common_options()

    def add(name: str, act: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """Add one command with the common options."""
        command = adder.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        command.set_defaults(act=act)
        return command

    predict = add("predict", commands.predict, "label images; exit code 2 when one cannot be read")
    predict.add_argument("folder", type=path_argument, metavar="FOLDER", help="a full bundle, or a device folder")
    predict.add_argument(
        "images", nargs="+", type=path_argument, metavar="IMAGE", help="JPEG, PNG, WebP, BMP, TIFF or DICOM"
    )
    predict.add_argument("--top", type=_positive, default=3, metavar="N", help="labels per image (3)")
    predict.add_argument(
        "--count", action="store_true", help="count the answers in the device folder; 'fedclip-edge stats' shows them"
    )
    check = add("verify", commands.verify, "check a bundle, an update or a device folder, and test its answers")
    check.add_argument("folder", type=path_argument, metavar="FOLDER", help="a bundle, an update, or a device folder")
    check.add_argument(
        "--against",
        type=path_argument,
        metavar="DEVICE",
        help="the device folder (or bundle) that an update is meant for",
    )
    update = add("update", commands.update, "install an update; the first time, a full bundle")
    update.add_argument(
        "device", type=path_argument, metavar="DEVICE", help="device folder; made when it does not exist"
    )
    update.add_argument("source", type=path_argument, metavar="SOURCE", help="update folder, or full bundle")
    rollback = add("rollback", commands.rollback, "go back to the round before")
    rollback.add_argument("device", type=path_argument, metavar="DEVICE", help="device folder")
    calibrate = add("calibrate", site_commands.calibrate, "set temperature and threshold by images of this place")
    calibrate.add_argument("device", type=path_argument, metavar="DEVICE", help="device folder")
    calibrate.add_argument(
        "images", type=path_argument, nargs="?", metavar="IMAGES", help="folder <label>/<image> of images of this place"
    )
    calibrate.add_argument(
        "--false-reject-rate", type=_share, metavar="R", help="share of them that is to be unknown (the bundle's)"
    )
    calibrate.add_argument("--reset", action="store_true", help="take the bundle's own calibration again")
    stats = add("stats", site_commands.stats, "tell how many images were answered with what, and how surely")
    stats.add_argument("device", type=path_argument, metavar="DEVICE", help="device folder")
    stats.add_argument("--prometheus", action="store_true", help="print Prometheus' text format")
    stats.add_argument("--reset", action="store_true", help="begin anew")
    bench = add("bench", commands.bench, "measure opening, latency of each stage, and a change of head")
    bench.add_argument("folder", type=path_argument, metavar="FOLDER", help="a full bundle, or a device folder")
    examine = add("doctor", doctor, "report versions, providers that load and why others do not, and a folder")
    examine.add_argument(
        "folder", type=path_argument, nargs="?", metavar="FOLDER", help="a full bundle, or a device folder"
    )
    return parser


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("common options")
    group.add_argument(
        "--key",
        dest="keys",
        type=path_argument,
        action="append",
        default=[],
        metavar="FILE",
        help="public key (PEM) that may have signed; may be repeated",
    )
    group.add_argument(
        "--allow-unsigned", action="store_true", help="for development: hashes are enough where no key is held"
    )
    group.add_argument("--product", default="fedclip", metavar="NAME", help="what the bundle must be for (fedclip)")
    group.add_argument("--provider", choices=CHOICES, default="auto", help="where the encoder runs (auto)")
    group.add_argument("--threads", type=_positive, metavar="N", help="threads (all cores of the process)")
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument("--debug", action="store_true", help="show tracebacks")
    return common


def _positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    """Return a share from 0, below 1."""
    if not re.fullmatch(r"0|0?\.[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0, below 1, such as 0.05")
    return float(text)


def _report(error: ExportError | OSError, as_json: bool) -> int:
    """Print an error as one line, for a program as JSON as well, and return the exit code."""
    reason = error.reason if isinstance(error, BundleError) else None
    told = refusal(error) if isinstance(error, OSError) else str(error)
    if as_json:
        print_json({"error": {"kind": type(error).__name__, "reason": reason, "message": told}})
    text = f"fedclip-edge: {f'refused ({reason}): ' if reason else ''}{told}"
    print(printable(text), file=sys.stderr, flush=True)
    return error.exit_code if isinstance(error, ExportError) else 1
