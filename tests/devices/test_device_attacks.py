"""Every way to tamper with a bundle that Python refuses is refused in Node and in the page, for the same reason.

But for what only the holder of a key can do, and the platform's own reader of JSON cannot tell: it does no harm.
"""

import json
import shutil

import pytest

from tests.devices.support import hosts
from tests.support import forge
from tests.support.forged_bundles import ATTACKS, attacked

ACCEPTED = ("duplicate JSON key", "deep JSON")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Return the folder of the scene: the installed bundle, the key, and one folder for each attack."""
    from fedclip_edge.bundle import keys

    place = tmp_path_factory.mktemp("attacks")
    keys.generate(place / "key")
    forge.bundle(place / "installed", key=place / "key")
    for number, name in enumerate(ATTACKS):
        attacked(place / f"case-{number}", name, place / "key")
    return place


@pytest.fixture(scope="module")
def node_reasons(node, scene):
    cases = [{"name": name, "folder": str(scene / f"case-{number}")} for number, name in enumerate(ATTACKS)]
    job = {"action": "attacks", "cases": cases, "base": str(scene / "installed"), "key": str(scene / "key.pub")}
    return hosts.ask("node_host.mjs", job | {"now": forge.NOW, "runtime": forge.RUNTIME})


@pytest.fixture(scope="module")
def page_reasons(chromium, scene, tmp_path_factory):
    """Return the page's answers; each attack is a site of its own beside the built one."""
    site = tmp_path_factory.mktemp("site") / "site"
    hosts.build_site(site, scene / "installed", keys=[scene / "key.pub"])
    cases, settings = [], json.loads((site / "site.json").read_text())
    keys = [f"../{key}" for key in settings["keys"]]
    for number, (name, attack) in enumerate(ATTACKS.items()):
        if attack.filesystem:
            continue
        place = site / f"case-{number}"
        place.mkdir()
        (place / "site.json").write_text(json.dumps({"product": forge.PRODUCT, "keys": keys}))
        shutil.copytree(scene / f"case-{number}", place / attack.victim)
        if attack.victim == "update":
            shutil.copytree(scene / "installed", place / "bundle")
        cases.append({"name": name, "folder": place.name, "victim": attack.victim})
    job = {"action": "attacks", "site": str(site), "plain": False, "chromium": chromium, "cases": cases}
    return hosts.ask("chromium_host.mjs", job | {"now": forge.NOW, "artefacts": str(hosts.ARTEFACTS)})


@pytest.mark.parametrize("name", ATTACKS)
def test_node_refuses(node_reasons, name):
    assert node_reasons[name] == (None if name in ACCEPTED else ATTACKS[name].reason)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if not attack.filesystem])
def test_page_refuses(page_reasons, name):
    expected = "none published" if name == "missing manifest" else ATTACKS[name].reason
    assert page_reasons[name] == (None if name in ACCEPTED else expected)
