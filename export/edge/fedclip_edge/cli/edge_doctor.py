"""``fedclip-edge doctor`` tells what this machine can run, and why it cannot run the rest."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from importlib import metadata

from fedclip_edge import __version__
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.cli.commands import open_classifier
from fedclip_edge.cli.printing import print_json
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.machine import cores
from fedclip_edge.runtime.providers import clash, examine, installed_distributions
from fedclip_edge.runtime.sessions import SessionMaker
from fedclip_edge.terminal import printable

Finding = tuple[str, str, str]
"""``ok``, ``note`` or ``FAULT``; what was looked at; what was found."""

_OPTIONAL = {
    "pillow": "arrays can be predicted, image files cannot: pip install 'fedclip-edge[image]'",
    "pydicom": "DICOM files cannot be read: pip install 'fedclip-edge[dicom]'",
    "cryptography": "signatures cannot be checked: pip install 'fedclip-edge[verify]'",
}


def doctor(options: argparse.Namespace) -> int:
    """Print what was found; return 0 when nothing is at fault, else 1."""
    findings = [*_packages(), *_runtime()]
    findings += _wanted(options) if options.folder is None else _folder(options)
    faults = sum(state == "FAULT" for state, _, _ in findings)
    if options.json:
        rows = [{"state": state, "subject": subject, "finding": text} for state, subject, text in findings]
        print_json({"findings": rows, "faults": faults})
        return 1 if faults else 0
    width = max(len(subject) for _, subject, _ in findings)
    for state, subject, text in findings:
        print(printable(f"{state:5}  {subject:{width}}  {text}").rstrip())
    print(f"{faults} fault{'s' if faults > 1 else ''}: mend first" if faults else "fit to serve")
    return 1 if faults else 0


def _packages() -> Iterator[Finding]:
    yield "ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {cores()} cores"
    yield "ok", "fedclip-edge", __version__
    yield "ok", "numpy", metadata.version("numpy")
    for name, without in _OPTIONAL.items():
        try:
            yield "ok", name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield "note", name, f"not installed: {without}"


def _runtime() -> Iterator[Finding]:
    try:
        providers = examine()
    except ExportError as error:
        yield "FAULT", "onnxruntime", str(error)
        return
    for name in installed_distributions():
        yield "ok", name, metadata.version(name)
    if clash():
        yield "FAULT", "onnxruntime", clash()
    for provider in providers:
        yield (
            ("ok", provider.name, "can be used")
            if provider.usable
            else ("note", provider.name, f"listed, but cannot load: {provider.reason}")
        )


def _wanted(options: argparse.Namespace) -> Iterator[Finding]:
    """Try what the options ask for where there is no folder to try it on."""
    try:
        for key in load_public_keys(options.keys):
            yield "ok", "key", f"{key.path} is key {key.id}"
        maker = SessionMaker.choose(options.provider, options.threads, spinning=False)
        yield "ok", "provider", f"{maker.providers[0]}, {maker.threads} thread{'s' if maker.threads > 1 else ''}"
    except ExportError as error:
        yield "FAULT", "options", str(error)


def _folder(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        with open_classifier(options.folder, options) as classifier:
            yield "ok", "folder", f"{options.folder} verified: round {classifier.round}, sequence {classifier.sequence}"
            for text in classifier.warnings:
                yield "FAULT" if text == classifier.fallback else "note", "folder", text
    except BundleError as error:
        yield "FAULT", "folder", f"{options.folder} refused ({error.reason}): {error}"
    except ExportError as error:
        yield "FAULT", "folder", str(error)
