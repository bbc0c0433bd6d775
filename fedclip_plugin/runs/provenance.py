"""What a result depends on besides the recipe: versions, seed, code revision, digest."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from fedclip_plugin.recipe import Recipe

DISTRIBUTIONS = ("fedclip-plugin", "fedml", "torch", "transformers", "numpy", "safetensors", "mpi4py")


def versions() -> dict[str, str]:
    """Return the installed version of every distribution that a result depends on; ``missing`` when it is not there."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def code_revision() -> str:
    """Return the source's git commit, with ``+changes`` when files differ from it; ``released`` without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "released"
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return (commit or "unknown") + ("+changes" if changed else "")


def recipe_text(recipe: Recipe) -> str:
    """Return the resolved recipe as it is kept in a run folder, under a header of provenance."""
    header = [
        "The resolved recipe of this run; it loads again as it is.",
        f"digest: {recipe.digest()}",
        f"seed: {recipe.common_args.random_seed}",
        f"code: {code_revision()}",
        "versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()),
    ]
    return "".join(f"# {line}\n" for line in header) + "\n" + recipe.to_yaml()


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
