"""The ``fedclip`` command line."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedclip_edge.terminal import StreamError, message, refusal, run_command
from fedclip_plugin import __version__
from fedclip_plugin.errors import FedClipError


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
    options = build_parser().parse_args(words)
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
    return error.text if options.act in (_evaluate, _predict) else str(error)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fedclip", description="FedCLIP for FedML: one image classifier from many silos, no image leaves a silo."
    )
    parser.add_argument("--version", action="version", version=f"fedclip {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_federation(commands)
    _add_study(commands)
    _add_recipes(commands)
    _add_folders(commands)
    _add_adapters(commands)
    _add_report(commands)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def _add_federation(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    launch = commands.add_parser("launch", help="check a recipe, print its mpirun command, and run it")
    run = commands.add_parser("run", help="be one rank of an mpirun job (launch does this for you)")
    for command in (launch, run):
        command.add_argument("recipe", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
        command.add_argument(
            "--run", dest="run_dir", type=Path, metavar="DIR", help="run folder (default: runs/ and the recipe's name)"
        )
        command.add_argument("--resume", action="store_true", help="continue after the last complete round")
        _add_overrides(command, "override a key")
        command.add_argument(
            "--progress", action=argparse.BooleanOptionalAction, default=None, help="bars while rendering and encoding"
        )
    launch.add_argument("--hostfile", type=Path, metavar="FILE", help="Open MPI's list of hosts, the server's first")
    launch.set_defaults(act=_launch)
    run.set_defaults(act=_run)


def _add_study(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    study = commands.add_parser("study", help="run what is missing of a study in one mpirun job, and print its tables")
    study.add_argument("study", metavar="STUDY", help="a file, or a name that 'fedclip ls' shows")
    study.add_argument("--out", type=Path, metavar="DIR", help="results folder (default: runs/studies/NAME)")
    instead = study.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="print the cells and an estimate of the time, and stop")
    instead.add_argument(
        "--table",
        nargs="?",
        const="text",
        choices=("text", "markdown", "csv"),
        help="print the tables of the results that are there, and stop",
    )
    _add_overrides(study, "override a key of every cell")
    _add_progress(study)
    study.set_defaults(act=_study)


def _add_recipes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = commands.add_parser("ls", help="list the recipes that come with the package")
    listing.set_defaults(act=_list)
    validate = commands.add_parser("validate", help="check recipes; every fault is named at once")
    validate.add_argument("recipes", nargs="+", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
    _add_overrides(validate, "override a key")
    validate.set_defaults(act=_validate)


def _add_folders(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="look through a folder of images: counts, bad files, duplicates")
    check.add_argument(
        "folder", type=Path, metavar="FOLDER", help="<class>/<image>, or <silo or domain>/<class>/<image>"
    )
    _add_progress(check)
    check.set_defaults(act=_check)
    sheet = commands.add_parser("sheet", help="draw the contact sheet of the built-in data set")
    sheet.add_argument("--out", type=Path, default=Path("sheet.png"), metavar="PNG", help="where to (sheet.png)")
    sheet.add_argument("--per-cell", type=_positive, default=3, metavar="N", help="images per class and domain (3)")
    sheet.set_defaults(act=_sheet)
    pretrain = commands.add_parser("pretrain", help="make the built-in clip-tiny anew (10-20 minutes on one core)")
    pretrain.add_argument("--out", type=Path, required=True, metavar="DIR", help="the backbone's folder")
    pretrain.add_argument("--seed", type=int, default=0, help="of images, weights and batches (0)")
    _add_progress(pretrain)
    pretrain.set_defaults(act=_pretrain)
    doctor = commands.add_parser("doctor", help="versions and clashes, MPI, GPU, caches")
    doctor.set_defaults(act=_doctor)


def _add_adapters(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="score an adapter, and zero-shot CLIP, on a folder of images")
    predict = commands.add_parser("predict", help="label images with an adapter; exit code 2 when one cannot be read")
    for command in (evaluate, predict):
        command.add_argument("adapter", type=Path, metavar="ADAPTER", help="such as runs/NAME/adapters/best")
        command.add_argument("--json", action="store_true", help="print JSON")
    features = evaluate.add_mutually_exclusive_group()
    for place in (features, predict):
        place.add_argument("--backbone", metavar="NAME", help="where the adapter's backbone is, if not where it was")
    features.add_argument("--encoder", type=Path, metavar="FILE", help="a bundle's encoder.onnx: what a device sees")
    evaluate.add_argument(
        "--on-bad-image", choices=("error", "skip"), default="error", help="skip: leave out what cannot be read (error)"
    )
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="<class>/<image>, or <domain>/<class>/<image>")
    evaluate.set_defaults(act=_evaluate)
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP or BMP")
    predict.add_argument("--top", type=_positive, default=3, metavar="K", help="labels per image (3)")
    predict.set_defaults(act=_predict)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="write a page of figures and tables, of a run or of a study")
    subject = report.add_mutually_exclusive_group(required=True)
    subject.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder, such as runs/NAME")
    subject.add_argument("--study", type=Path, metavar="DIR", help="a study's results folder")
    report.set_defaults(act=_report)


def _add_overrides(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help=f"{what}; may be repeated",
    )


def _add_progress(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a bar (where stderr is a terminal)",
    )


def _positive(text: str) -> int:
    """Return a whole number of at least 1; argparse turns the ValueError into its own message."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.run import run

    return run(
        options.recipe, options.run_dir, options.resume, options.overrides, bool(options.progress), options.debug
    )


def _launch(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.run import launch

    progress = sys.stderr.isatty() if options.progress is None else options.progress
    return launch(
        options.recipe,
        options.run_dir,
        options.resume,
        options.overrides,
        progress,
        options.debug,
        options.hostfile,
    )


def _study(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.study import study

    return study(
        options.study,
        options.out,
        options.dry_run,
        options.table,
        options.overrides,
        options.progress,
        options.debug,
    )


def _list(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.recipes import list_recipes

    return list_recipes()


def _validate(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.recipes import validate

    return validate(options.recipes, options.overrides)


def _check(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.folders import check

    return check(options.folder, options.progress)


def _sheet(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.folders import sheet

    return sheet(options.out, options.per_cell)


def _pretrain(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.folders import make_backbone

    return make_backbone(options.out, options.seed, options.progress)


def _doctor(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.doctor import doctor

    return doctor()


def _evaluate(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.adapters import evaluate

    return evaluate(
        options.adapter, options.folder, options.backbone, options.encoder, options.on_bad_image == "skip", options.json
    )


def _predict(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.adapters import predict

    return predict(options.adapter, options.images, options.backbone, options.top, options.json)


def _report(options: argparse.Namespace) -> int:
    from fedclip_plugin.cli.report import report_run, report_study

    return report_study(options.study) if options.study else report_run(options.run)
