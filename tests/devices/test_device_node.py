"""The Node package gives Python's answers, from raw pixels and from files, and swaps heads while it serves."""

import json
import shutil
from pathlib import Path

import compare
import hosts
import numpy as np
import pytest

from fedclip_export.bundle import Device, Trust, open_bundle
from fedclip_export.bundle.keys import load_public_keys
from fedclip_plugin.data.images import open_rgb


def predict(delivery, images=()):
    job = {"action": "predict", "folder": str(delivery.bundle), "keys": [str(delivery.public)]}
    return hosts.ask("node_host.mjs", job | {"images": [str(path) for path in images]})


def test_raw_golden_images(node, delivery, python, capsys):
    found = predict(delivery)
    wanted = [python(image) for image in compare.golden_images(delivery)]
    largest = max(compare.differences(found["golden"], wanted))
    with capsys.disabled():
        print(
            f"\nnode, raw: max |dlogit| {largest:.1e}, load {found['load']:.0f} ms, "
            f"encoder {compare.median(found['golden'], 'encoder'):.1f} ms"
        )
    assert largest <= hosts.TOLERANCE
    assert found["keyId"] == load_public_keys([delivery.public])[0].id


def test_lossless_files(node, delivery, python, pictures, capsys):
    found = predict(delivery, pictures)["files"]
    largest = max(compare.differences(found, compare.expected(python, pictures)))
    with capsys.disabled():
        print(f"\nnode, {len(pictures)} lossless files: max |dlogit| {largest:.1e}")
    assert largest <= hosts.TOLERANCE


def test_photos(node, delivery, python, photos, capsys):
    found, wanted = predict(delivery, photos)["files"], compare.expected(python, photos)
    largest = sorted(compare.differences(found, wanted))[-3:]
    with capsys.disabled():
        print(
            f"\nnode, {len(photos)} JPEG files: equal labels {compare.equal_labels(found, wanted):.1%}, "
            f"largest |dlogit| {', '.join(f'{value:.1e}' for value in largest)}"
        )
    assert compare.equal_labels(found, wanted) >= 0.99


def test_heads_are_swapped_while_it_serves(node, delivery, capsys):
    job = {"action": "swaps", "folder": str(delivery.bundle), "updates": [str(delivery.update)], "times": 50}
    found = hosts.ask("node_host.mjs", job | {"keys": [str(delivery.public)]})
    answers = {one["sequence"]: set() for one in found["seen"]}
    for one in found["seen"]:
        answers[one["sequence"]].add(tuple(one["logits"]))
    with capsys.disabled():
        print(f"\nnode: 50 swaps, median {np.median(found['took']):.1f} ms, {len(found['seen'])} answers meanwhile")
    assert len(answers) == 2 and all(len(logits) == 1 for logits in answers.values())


def test_command_predicts(node, delivery, pictures):
    done = hosts.run(node, hosts.COMMAND, "predict", delivery.bundle, pictures[0], "--key", delivery.public, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["sequence"] == 1_763_645_000
    assert found["top"][0]["label"] == found["label"] and len(found["top"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict", "{bundle}"], 2, "needs at least one image"),
        (["predict", "{bundle}", "/nowhere.png"], 1, "/nowhere.png"),
        (["verify", "{update}"], 1, "refused (incomplete)"),
        (["verify", "{bundle}", "--product", "other"], 1, "refused (product)"),
        (["verify", "{bundle}", "--colour"], 2, "--colour"),
        (["dance", "{bundle}"], 2, "use: fedclip-edge-node"),
    ],
)
def test_command_says_what_is_wrong(node, delivery, arguments, code, said):
    places = {"bundle": delivery.bundle, "update": delivery.update}
    done = hosts.run(node, hosts.COMMAND, *(argument.format(**places) for argument in arguments))
    assert done.returncode == code and said in done.stderr
    assert "    at " not in done.stderr


def test_command_refuses_what_is_no_picture(node, delivery, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (tmp_path / "wide.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1\0\0" * 2 + b"\x08\2\0\0\0")
    for name, said in (("x.jpg", "cut off"), ("wide.png", "more than the limit of 64 million")):
        done = hosts.run(node, hosts.COMMAND, "predict", delivery.bundle, tmp_path / name)
        assert done.returncode == 1 and said in done.stderr


def make_device(delivery, folder):
    keys = load_public_keys([delivery.public])
    device = Device(folder)
    device.create(open_bundle(delivery.bundle, Trust(keys)), keys)
    return device


def test_device_folder_of_python_is_served_and_updated(node, delivery, tmp_path):
    device = make_device(delivery, tmp_path / "device")
    first = hosts.run(node, hosts.COMMAND, "verify", device.folder, "--json")
    assert json.loads(first.stdout)["sequence"] == 1_763_645_000
    assert hosts.run(node, hosts.COMMAND, "update", device.folder, delivery.update).returncode == 0
    assert (device.state.current, device.state.previous) == ("1763645100", "1763645000")
    again = hosts.run(node, hosts.COMMAND, "update", device.folder, delivery.update)
    assert again.returncode == 1 and "refused (replay)" in again.stderr
    python_side = device.current(device.trust("fedclip"))
    assert python_side.manifest.sequence == 1_763_645_100 and device.fallback is None


def test_device_folder_falls_back_to_the_round_before(node, delivery, tmp_path):
    device = make_device(delivery, tmp_path / "device")
    hosts.run(node, hosts.COMMAND, "update", device.folder, delivery.update)
    head = device.folder / "rounds" / "1763645100" / "head.onnx"
    head.write_bytes(head.read_bytes()[:-1])
    done = hosts.run(node, hosts.COMMAND, "verify", device.folder, "--json")
    assert json.loads(done.stdout)["sequence"] == 1_763_645_000 and "warning: Round 1763645100" in done.stderr
    again = hosts.run(node, hosts.COMMAND, "update", device.folder, delivery.update)
    assert "refused (replay)" in again.stderr


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema":1}', b'{"a":1,"a":2}'])
def test_damaged_device_records(node, delivery, tmp_path, content):
    device = make_device(delivery, tmp_path / "device")
    Path(device.folder, "state.json").write_bytes(content)
    done = hosts.run(node, hosts.COMMAND, "verify", device.folder)
    assert done.returncode == 1 and "refused (device-state)" in done.stderr


def test_external_data(node, signer_scene, tmp_path):
    """An encoder whose weights lie in a file of their own is served, and refused when they are changed."""
    folder = signer_scene.bundle(tmp_path / "bundle", external=True)
    assert hosts.run(node, hosts.COMMAND, "verify", folder).returncode == 0
    shutil.copyfile(folder / "head.onnx", folder / "encoder.onnx.data")
    done = hosts.run(node, hosts.COMMAND, "verify", folder)
    assert done.returncode == 1 and "refused (size)" in done.stderr


def test_decoding_is_pixel_equal(node, pictures, photos):
    """Not asked of decoders, but so: what is fed to the graphs is what the plugin's own reader gives."""
    script = hosts.HERE / "decode_host.mjs"
    done = hosts.run(node, script, *pictures, *photos[:30])
    assert done.returncode == 0, done.stderr
    for path, line in zip((*pictures, *photos[:30]), done.stdout.splitlines(), strict=True):
        image = np.asarray(open_rgb(path))
        assert line == f"{image.shape[0]} {image.shape[1]} {hosts.digest(image)}", path
