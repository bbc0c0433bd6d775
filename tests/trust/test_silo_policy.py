"""The silo policy's file: found where no recipe says, read whole or refused, and never by leaving something out."""

import hashlib
import os
import stat

import pytest

from fedclip_plugin.errors import PolicyError
from fedclip_plugin.trust import silo_policy
from fedclip_plugin.trust.silo_policy import SiloPolicy, example_policy, find_policy, load_policy
from tests.support.policies import LAX, policy_of, write_policy


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Put the fixed places into a folder of the test's own."""
    machine, user = tmp_path / "etc" / "silo_policy.yaml", tmp_path / "home" / "silo_policy.yaml"
    monkeypatch.setattr(silo_policy, "MACHINE_PLACE", machine)
    monkeypatch.setattr(silo_policy, "USER_PLACE", user)
    machine.parent.mkdir()
    user.parent.mkdir()
    return machine, user


def test_the_example_can_be_used_and_explains_every_key(tmp_path):
    place = tmp_path / "example.yaml"
    place.write_text(example_policy(), encoding="utf-8")
    policy = load_policy(place).policy
    assert policy.methods == ("fedclip", "sigmoid_gate", "linear_probe")
    assert policy.backbones is None
    assert policy.max_bytes == 500_000_000
    lines = [line for line in example_policy().splitlines() if ":" in line and not line.startswith("# P")]
    assert all("#" in line for line in lines)
    assert {line.lstrip("# ").partition(":")[0] for line in lines} == set(SiloPolicy.model_fields)


def test_the_hash_is_that_of_the_file(tmp_path):
    file = policy_of(tmp_path)
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_without_a_file_there_is_no_policy(places):
    assert find_policy({}) is None


def test_the_machines_place_comes_before_the_users(places):
    machine, user = places
    user.touch()
    assert find_policy({}) == user
    machine.touch()
    assert find_policy({}) == machine


def test_a_variable_names_another_file_but_replaces_no_policy_of_the_machine(places, tmp_path):
    machine, user = places
    user.touch()
    assert find_policy({"FEDCLIP_SILO_POLICY": "/srv/policy.yaml"}).as_posix() == "/srv/policy.yaml"
    machine.touch()
    assert find_policy({"FEDCLIP_SILO_POLICY": str(machine)}) == machine
    with pytest.raises(
        PolicyError, match=r"names /srv/policy.yaml, and this machine has .* which no variable replaces"
    ):
        find_policy({"FEDCLIP_SILO_POLICY": "/srv/policy.yaml"})


@pytest.mark.parametrize("named", ["", "  ", "policy.yaml", "./policy.yaml"])
def test_a_variable_that_names_nothing_switches_nothing_off(places, named):
    with pytest.raises(PolicyError, match="must be the full path of a silo policy"):
        find_policy({"FEDCLIP_SILO_POLICY": named})


def test_a_place_that_cannot_be_looked_at_is_no_absence(places, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(silo_policy.os, "lstat", closed)
    with pytest.raises(PolicyError, match=r"cannot be told \(Permission denied\)"):
        find_policy({})


def test_a_dangling_link_is_a_policy_that_cannot_be_read(places):
    machine, _ = places
    machine.symlink_to(machine.parent / "nothing")
    with pytest.raises(
        PolicyError,
        match=r"cannot be used: No such file .*; mend that, or write another one: 'fedclip policy example' prints one$",
    ):
        load_policy(find_policy({}))


@pytest.mark.parametrize("key", LAX)
def test_a_key_that_is_left_out_allows_nothing(tmp_path, key):
    with pytest.raises(PolicyError, match=f"1 error in .*\n  {key}: is required"):
        policy_of(tmp_path, **{key: None})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_round": 5}, "max_round = 5: is no key of a silo policy, .*did you mean 'max_rounds'"),
        ({"servers": ["head"]}, "servers = .*: is no key of a silo policy"),
        ({"methods": ["fedclipp"]}, r"methods\[0\] = .*did you mean 'fedclip'"),
        ({"methods": "fedclip"}, 'methods = "fedclip": must be a list'),
        ({"backbones": ["12ab"]}, r"backbones\[0\] = \"12ab\": must be 64 hexadecimal digits"),
        ({"max_rounds": 0}, "max_rounds = 0: must be at least 1"),
        ({"max_bytes": "5 MB"}, 'max_bytes = "5 MB": must be a whole number'),
        ({"allow_class_counts": "no way"}, 'allow_class_counts = "no way": must be true or false'),
        ({"require_differential_privacy": True}, "max_epsilon: is required by"),
        ({"require_differential_privacy": True, "max_epsilon": 3.0}, "max_delta: is required by"),
        ({"max_delta": 1e-5}, "max_delta = .*: binds nothing without"),
        ({"max_epsilon": 3.0}, "max_epsilon = 3.0: binds nothing without"),
        ({"require_differential_privacy": True, "max_epsilon": -1.0}, "max_epsilon = -1.0: must be greater than 0"),
    ],
)
def test_what_is_wrong_is_named_and_refused(tmp_path, changes, told):
    with pytest.raises(PolicyError, match=rf"^SILO POLICY: \d error.*\n  {told}"):
        policy_of(tmp_path, **changes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"- a\n", "holds a list"),
        (b"methods: [\n", "malformed YAML"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"methods: any\nmethods: any\n", "already given in line 1"),
        (b"methods:\n", "is empty; give a list, or write any"),
        (b"x" * 2**19, "more than 256 kB"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, content, told):
    place = tmp_path / "silo_policy.yaml"
    place.write_bytes(content)
    with pytest.raises(PolicyError, match=told):
        load_policy(place)


def test_a_folder_or_a_pipe_is_refused_at_once(tmp_path):
    with pytest.raises(PolicyError, match="cannot be used: Is a directory"):
        load_policy(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyError, match="cannot be used: not an ordinary file"):
        load_policy(tmp_path / "pipe")


def test_a_file_that_everybody_can_change_binds_nobody(tmp_path):
    place = write_policy(tmp_path / "silo_policy.yaml")
    for mode, who in ((0o666, "every user"), (0o664, "group")):
        place.chmod(mode)
        with pytest.raises(PolicyError, match=rf"{who}.* can write {place}, and so change it; take that right away"):
            load_policy(place)
    place.chmod(0o644)
    for mode, who in ((0o777, "every user"), (0o775, "group")):
        tmp_path.chmod(mode)
        with pytest.raises(PolicyError, match=rf"{who}.* can write {tmp_path}, and so replace what it leads to"):
            load_policy(place)
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    assert load_policy(place).policy.max_rounds == 1000


@pytest.mark.parametrize("changed", ["above", "real", "links", "middle"])
def test_every_folder_that_leads_to_the_file_is_looked_at(tmp_path, changed):
    above, links, middle, real = (tmp_path / name for name in ("above", "links", "middle", "above/real"))
    for folder in (above, links, middle, real):
        folder.mkdir(mode=0o755)
    write_policy(real / "policy.yaml")
    (middle / "folder").symlink_to("../above/real")
    (links / "policy.yaml").symlink_to(middle / "folder" / "policy.yaml")
    assert load_policy(links / "policy.yaml").policy.min_silos == 1
    own = {"above": above, "real": real, "links": links, "middle": middle}[changed]
    own.chmod(0o775)
    with pytest.raises(PolicyError, match=r"group \d+ can write .*, and so replace what it leads to"):
        load_policy(links / "policy.yaml")


def test_a_file_of_another_user_binds_nobody(tmp_path, monkeypatch):
    place = write_policy(tmp_path / "silo_policy.yaml")
    monkeypatch.setattr(silo_policy.os, "geteuid", lambda: place.stat().st_uid + 1)
    if place.stat().st_uid == 0:
        assert load_policy(place).policy.min_silos == 1, "root may change everything anyway"
    else:
        with pytest.raises(PolicyError, match="must belong to root or to user"):
            load_policy(place)
