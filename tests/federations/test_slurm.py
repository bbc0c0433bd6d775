"""The batch script that comes along, by a real Slurm on this machine: skipped where Slurm is not installed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.workshop import IMAGES_PER_CLASS

CONFIG = """\
ClusterName=fedclip
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
SelectType=select/cons_tres
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
LONGEST = 240.0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Start a Slurm of one node, and return the environment of its commands."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"no Slurm on this machine: {', '.join(missing)} not found")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own starts as root only")
    place = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "spool"):
        (place / name).mkdir(mode=0o755)
    config = place / "slurm.conf"
    config.write_text(CONFIG.format(host=host, place=place, cores=os.cpu_count()))
    key = place / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = os.environ | {"SLURM_CONF": str(config)}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={place}/munge/socket"]
    munge += [f"--{kind}-file={place}/munge/{kind}" for kind in ("pid", "log", "seed")]
    commands = [munge, ["slurmctld", "-D", "-f", str(config)], ["slurmd", "-D", "-f", str(config), "-N", host]]
    running = []
    with (place / "daemons.log").open("w") as log:
        for command in commands:
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(1)
    try:
        if not wait(lambda: "idle" in said(environment, "sinfo", "-h", "-o", "%T"), 60):
            told = "\n".join(path.read_text(errors="replace")[-300:] for path in sorted(place.glob("*.log")))
            pytest.skip(f"Slurm does not start on this machine: {told}")
        yield environment
    finally:
        said(environment, "scancel", "--full", "--user", "root")
        wait(lambda: said(environment, "squeue", "-h") == "", 30)
        for daemon in reversed(running):
            daemon.terminate()
            daemon.wait(timeout=30)


def said(environment, *command):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def wait(done, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(1)
    return False


def test_the_batch_script_runs_to_the_closing_table_and_says_how_it_goes_on(slurm, workshop, tmp_path):
    script = (ROOT / "examples" / "slurm" / "fedclip.sh").read_text(encoding="utf-8")
    own = {
        "cd /path/to/fedclip": f"cd {tmp_path}",
        ". .venv/bin/activate": f"export PATH={Path(sys.executable).parent}:$PATH",
        "pacs/vit_b32_fedclip --run runs/pacs --set fedclip_args.data_root=/data/PACS": (
            f"miniature/clip_tiny_fedclip --run runs/mini --set train_args.comm_round=2 "
            f"--set fedclip_args.images_per_class={IMAGES_PER_CLASS} --set data_args.data_cache_dir={workshop.data} "
            f"--set fedclip_args.feature_cache_dir={workshop.features} --set fedclip_args.augmented_views=0"
        ),
        "--cpus-per-task=4": "--cpus-per-task=1\n#SBATCH --overcommit",
        "--ntasks=4": f"--ntasks={min(4, os.cpu_count())}",
    }
    for line, other in own.items():
        assert line in script
        script = script.replace(line, other)
    (tmp_path / "job.sh").write_text(script)

    def submit(*words):
        submitted = subprocess.run(
            ["sbatch", "--parsable", "job.sh", *words],
            env=slurm,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert submitted.returncode == 0, submitted.stderr
        number = submitted.stdout.strip()
        assert wait(lambda: said(slurm, "squeue", "-h", "-j", number) == "", LONGEST)
        return (tmp_path / f"fedclip-{number}.out").read_text()

    first = submit()
    assert "round 2/2" in first and "FedCLIP, last round 2" in first, first
    again = submit("--resume", "--set", "train_args.comm_round=3")
    assert "round 3/3" in again and "round 2/" not in again, again
