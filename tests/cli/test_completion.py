"""What a shell completes: commands, options, recipes, keys, and the cases of a study."""

import os
import subprocess
import sys

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.recipe import recipe_files, recipe_name
from tests.support.paths import ROOT

LINES = {
    "fedclip stu": {"study"},
    "fedclip launch pacs/vit_b32_fedclip --res": {"--resume"},
    "fedclip launch miniature/clip_tiny_fedclip --keep-going --without ca": {"cartoon"},
    "fedclip cp studies/pa": {"studies/pacs"},
    "fedclip study studies/miniature --only fp": {"fp16"},
    "fedclip validate own.yaml --set train_args.learn": {"train_args.learning_rate="},
    "fedclip validate own": {
        "own.yaml",
        *(name for name in map(recipe_name, recipe_files()) if name.startswith("own")),
    },
}


@pytest.fixture
def fedclip(tmp_path):
    """Put the command on the path, and the script that bash reads beside it."""
    command = tmp_path / "bin" / "fedclip"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m fedclip_plugin "$@"\n')
    command.chmod(0o755)
    (tmp_path / "own.yaml").touch()
    return os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_bash_completes_what_may_stand_there(fedclip, tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    ask = "".join(
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_TYPE=9; _python_argcomplete fedclip; echo ${{COMPREPLY[*]}}\n"
        for line in LINES
    )
    script = f"{capsys.readouterr().out}\n{ask}"
    done = subprocess.run(["bash", "-c", script], env=fedclip, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [set(line.split()) for line in done.stdout.splitlines()] == list(LINES.values())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_scripts_of_their_own(capsys, shell):
    assert main(["completion", shell]) == 0
    assert {"zsh": "#compdef fedclip", "fish": "complete --command fedclip"}[shell] in capsys.readouterr().out
