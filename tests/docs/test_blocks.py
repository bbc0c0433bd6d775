"""Every block of code in README and pages is run here, or says why not."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fedclip_edge.cli import main as edge_main
from fedclip_plugin.cli.main import main
from tests.docs.blocks import Block, blocks, commands
from tests.support.paths import ROOT
from tests.support.random_adapters import write_adapter
from tests.support.round_records import write_rounds

BLOCKS = blocks()
RUN = [block for block in BLOCKS if block.mark == "run"]
MAINS = {"fedclip": main, "fedclip-edge": edge_main}
REGRESSION = ROOT / "tests" / "regression"


def test_every_block_says_whether_it_is_run_or_why_not():
    assert [block.name for block in BLOCKS if block.mark is None] == []
    assert len(RUN) >= 10


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if (block.mark or "").startswith("file: ")], ids=lambda block: block.name
)
def test_a_block_that_shows_a_file_is_that_file(block):
    assert block.text == (ROOT / block.mark.removeprefix("file: ")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory, workshop, own_images):
    """Return the folder in which blocks run: what the pages name is there, from files that the tests have anyway."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "data").mkdir()
    (folder / "data" / "own_silos").symlink_to(own_images("pages"))
    for site, silo in {"north": "silo_a", "south": "silo_b", "east": "silo_c"}.items():
        (folder / "data" / site).symlink_to(folder / "data" / "own_silos" / silo)
    lines = ["file,label,site,patient"]
    for site in ("north", "south", "east"):
        for number, path in enumerate(sorted((folder / "data" / site).glob("*/*.png"))):
            lines.append(f"{path},{path.parent.name},{site},{site}-{number // 3}")
    (folder / "data" / "scans.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / ".fedclip").mkdir()
    (folder / ".fedclip" / "data").symlink_to(workshop.data)
    (folder / "runs" / "demo" / "adapters").mkdir(parents=True)
    for name in ("best", "final"):
        write_adapter(folder / "runs" / "demo" / "adapters" / name)
    write_rounds(folder / "runs" / "demo" / "metrics.jsonl", 0, 1, 1)
    for name in ("bundle", "update"):
        shutil.copytree(REGRESSION / "bundle_1" / name, folder / name)
    shutil.copy(REGRESSION / "bundle_1" / "signer.pub", folder / "release.pub")
    picture = next((folder / "data" / "own_silos").rglob("*.png"))
    for name in ("picture.png", "picture.jpg", "photo.jpg", "a.jpg", "b.jpg"):
        Image.open(picture).convert("RGB").save(folder / name)
    for name in ("recipes", "examples", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_a_block_runs(block: Block, place: Path, monkeypatch, capfd):
    monkeypatch.chdir(place)
    if block.language == "python":
        exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})
        return
    told = commands(block.text)
    assert told, "a console block has commands, after '$ '"
    for command, output in told:
        code, said = _run(command, capfd)
        assert code == 0, f"{command}\n{said}"
        shown = {" ".join(line.split()) for line in said.splitlines()}
        assert [line for line in output if " ".join(line.split()) not in shown] == []


def _run(command, capfd):
    """Run a command, one of ours in this process where it needs no shell; return its exit code and output."""
    words = shlex.split(command, comments=True)
    if words[0] in MAINS and not {">", "|", "*"} & set(command.partition("#")[0]):
        code = MAINS[words[0]](words[1:])
        return code, "".join(capfd.readouterr())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr
