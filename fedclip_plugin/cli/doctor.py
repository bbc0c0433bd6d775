"""``fedclip doctor`` tells whether this machine is fit to take part."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from fedclip_edge.machine import cores
from fedclip_edge.terminal import printable, refusal
from fedclip_plugin.cli.probes import probe, probe_onnxruntime
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.text import counted

Finding = tuple[str, str]
"""``ok``, ``note`` or ``FAULT``, and a sentence."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the command has none."""


def act(options: argparse.Namespace) -> int:
    """Print what was found; return 0 when nothing is at fault, else 1."""
    faults = 0
    for title, examine in _CHAPTERS:
        print(title)
        for state, text in _examined(examine):
            print(f"  {state:5} {printable(text)}", flush=True)
            faults += state == "FAULT"
    print(f"{counted(faults, 'fault')}: mend first" if faults else "fit for a federation")
    return 1 if faults else 0


def _examined(examine: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Give what a chapter finds; one that cannot be examined is at fault, and the others are examined all the same."""
    try:
        yield from examine()
    except FedClipError as error:
        yield "FAULT", str(error)
    except Exception as error:  # what is broken on a machine may raise anything
        yield "FAULT", f"cannot be examined: {type(error).__name__}: {error}"


def _packages() -> Iterator[Finding]:
    from fedclip_plugin.runs.provenance import versions

    for name, version in versions().items():
        yield ("FAULT" if version == "missing" else "ok"), f"{name} {version}"
    yield from _clashes()


def _clashes() -> Iterator[Finding]:
    """Name the two clashes that stop fedml 0.9.6 from being imported."""
    for name, limit, reason in (
        ("setuptools", 81, "fedml imports pkg_resources, which setuptools 81 dropped"),
        ("numpy", 2, "fedml 0.9.6 is built for numpy 1"),
    ):
        major = int(metadata.version(name).split(".")[0]) if _installed(name) else None
        if major is None:
            yield "FAULT", f"{name} is missing; pip install '{name}<{limit}'"
        elif major >= limit:
            yield "FAULT", f"{name} {major}: {reason}; pip install '{name}<{limit}'"
    checked = probe(sys.executable, "-m", "pip", "check")
    if checked.fault and not checked.out:
        yield "note", f"pip cannot look for clashes between packages: {checked.fault}"
    for line in checked.out.splitlines() if checked.fault else ():
        yield "FAULT", f"pip check: {line}"
    runtimes = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(runtimes) > 1:
        yield "FAULT", f"{' and '.join(runtimes)} own the same folder: uninstall both, then install one"


def _mpi() -> Iterator[Finding]:
    from fedclip_plugin.cli.mpirun.open_mpi import find_mpirun, mpi_library, mpirun_version

    try:
        mpirun = find_mpirun()
        yield "ok", f"{mpirun}: {mpirun_version(mpirun)}"
    except FedClipError as error:
        yield "FAULT", str(error)
    try:
        yield "ok", f"mpi4py uses {mpi_library()}"
    except FedClipError as error:
        yield "FAULT", str(error)


def _machine() -> Iterator[Finding]:
    import torch

    from fedclip_plugin.backbone.precision import candidate

    yield "ok", f"{cores()} cores; on the CPU, precision auto would try {candidate(torch.device('cpu'))}"
    if not torch.cuda.is_available():
        yield "note", "no CUDA device that torch can use: everything runs on the CPU"
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield "ok", f"cuda:{index} {torch.cuda.get_device_name(index)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"


def _fedml() -> Iterator[Finding]:
    fault = probe("import fedml").fault
    yield ("FAULT", f"fedml cannot be imported: {fault}") if fault else ("ok", "fedml can be imported")


def _surroundings() -> Iterator[Finding]:
    """Say what a command is given by whoever starts it: home, folders, and a console."""
    home = os.environ["HOME"]
    yield ("ok", f"HOME is {home}") if Path(home).is_dir() else ("note", f"HOME is {home}, which is no folder")
    given = os.environ.get("TMPDIR")
    if given and not Path(given).is_dir():
        yield "FAULT", f"TMPDIR is {given}, which is no folder: make it, or unset TMPDIR"
    for name, place in (("temporary files", None), ("runs and caches", Path.cwd())):
        try:
            with tempfile.TemporaryFile(dir=place, buffering=0) as file:
                file.write(b"x")
            yield "ok", f"folder for {name}: {place or tempfile.gettempdir()}"
        except OSError as error:
            told = refusal(OSError(error.errno, error.strerror, str(place or tempfile.gettempdir())))
            yield "FAULT", f"folder for {name}: {told}"
    encoding = sys.stdout.encoding or "unknown"
    if encoding.lower().replace("-", "") == "utf8":
        yield "ok", "the console is UTF-8"
    else:
        yield "note", f"the console is {encoding}: names that it cannot show are written with escapes"


def _onnxruntime() -> Iterator[Finding]:
    version, providers = probe_onnxruntime()
    yield "ok", f"onnxruntime {version}"
    for provider, reason in providers.items():
        yield ("note", f"{provider} is listed but cannot load: {reason}") if reason else ("ok", provider)


def _places() -> Iterator[Finding]:
    from fedclip_plugin.backbone.locate import BUILT_IN, locate_backbone

    for name in (BUILT_IN, "openai/clip-vit-base-patch32"):
        try:
            yield "ok", f"backbone {name}: {locate_backbone(name)}"
        except FedClipError as error:
            yield ("FAULT" if name == BUILT_IN else "note"), str(error)
    cache = Path(".fedclip")
    if cache.exists():
        files = [path for path in cache.rglob("*") if path.is_file()]
        yield (
            "ok",
            f"caches in {cache.resolve()}: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.0f} MB",
        )
    else:
        yield "note", f"no caches yet; they will be in {cache.resolve()}"


def _silo() -> Iterator[Finding]:
    """Say what binds a silo whose rank runs here: policy, egress log, and keys for secure sums."""
    from fedclip_plugin.trust.egress_log import VARIABLE, named_folder
    from fedclip_plugin.trust.silo_policy import find_policy, load_policy, places_told

    try:
        if place := find_policy():
            file = load_policy(place)
            yield "ok", f"silo policy {file.path}, SHA-256 {file.sha256}"
        else:
            yield "note", f"no silo policy ({places_told()}): the recipe alone says what leaves this machine"
        if (named := os.environ.get(VARIABLE)) is not None:
            yield _log_folder(named_folder(named))
    except FedClipError as error:
        yield "FAULT", str(error)
    yield from _silo_keys()


def _log_folder(folder: Path) -> Finding:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return "ok", f"egress logs go into {folder}"
    return "FAULT", f"egress logs cannot be written into {folder}, and without them nothing leaves: see to {there}"


def _silo_keys() -> Iterator[Finding]:
    from fedclip_plugin.trust.silo_keys import fingerprint, keys_folder, load_identity

    folder = keys_folder()
    keys = sorted(folder.glob("*.key"))
    if not keys:
        yield "note", f"no silo keys in {folder}: a silo needs one where the recipe has secure_sums"
    for key in keys:
        try:
            identity = load_identity(folder, key.stem)
            yield "ok", f"key of silo {key.stem}, {fingerprint(identity.roster[key.stem])}, in {folder}"
        except FedClipError as error:
            yield "FAULT", str(error)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


_CHAPTERS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("packages", _packages),
    ("MPI", _mpi),
    ("FedML", _fedml),
    ("machine", _machine),
    ("surroundings", _surroundings),
    ("onnxruntime, for devices", _onnxruntime),
    ("backbones and caches", _places),
    ("what leaves this machine, as a silo", _silo),
)
