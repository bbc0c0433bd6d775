"""The demo's recipe on four hosts by a hostfile: network namespaces, since a test has one machine."""

import os
import subprocess

import pytest

from fedclip_plugin.recipe import find_recipe
from tests.support.hosts import NETWORK, Hosts, why_not
from tests.support.workshop import IMAGES_PER_CLASS, LAUNCH

SMALL = {"train_args.comm_round": 2, "fedclip_args.images_per_class": IMAGES_PER_CLASS}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    found = Hosts(4, tmp_path_factory.mktemp("hosts"))
    try:
        found.up()
        subprocess.run([*found.on(1), "true"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        found.down()
        pytest.skip(why_not(error))
    yield found
    found.down()


@pytest.fixture
def launch(hosts, workshop, tmp_path):
    hostfile, caches = tmp_path / "hosts", {"data_args.data_cache_dir": workshop.data}
    sets = SMALL | caches | {"fedclip_args.feature_cache_dir": workshop.features}
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]

    def _launch(name, *last, addresses=(1, 2, 3, 4)):
        hostfile.write_text("".join(f"{hosts.address(number)} slots=1\n" for number in addresses))
        own = ("--hostfile", hostfile, "--", *last, "--prtemca", "plm_ssh_agent", hosts.agent)
        return workshop.run(
            find_recipe("miniature/clip_tiny_fedclip"),
            *words,
            *own,
            run=workshop.place / "runs" / name,
            program=LAUNCH,
            wrap=hosts.on(1),
            env={"HOME": os.environ.get("HOME", "/")},
        )

    return _launch


def test_the_demo_runs_on_four_hosts_to_the_bytes_of_one(launch, workshop, hosts):
    done = launch("four_hosts", "--mca", "btl_tcp_if_include", f"{NETWORK}.0/24")
    assert done.code == 0, done.err
    assert f"ranks by host: 0 {hosts.address(1)}, 1 {hosts.address(2)}" in done.out
    assert "round 2/2" in done.out and "FedCLIP, last round 2" in done.out
    recipe = workshop.place / "runs" / "four_hosts" / "recipe.yaml"
    assert done.adapter_bytes("final") == workshop.run_here(recipe).adapter_bytes("final")


def test_a_host_that_cannot_be_reached_is_named_in_one_line(launch, hosts):
    refused = launch("three_hosts", addresses=(1, 2, 3, 9))
    assert refused.code == 2
    assert f"host {hosts.address(9)} " in refused.err and "nothing was started" in refused.err
    assert "-----" not in refused.err + refused.out
    assert not refused.folder.path.exists()
