"""The Node package gives Python's answers, from raw pixels and from files, and swaps heads while it serves."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.runtime import EdgeClassifier
from fedclip_plugin.data.read_image import open_rgb
from tests.devices.support import compare, hosts
from tests.support import forge
from tests.support.dicoms import dicom
from tests.support.tiffs import tiff

UNSIGNED = ["--allow-unsigned"]
KINDS = {"x.tif": "TIFF", "x.dcm": "DICOM"}


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


def test_the_answers_are_those_of_python_with_unknown_among_them(node, delivery, said, pictures):
    assert compare.answers(predict(delivery, pictures)) == said(pictures)


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
    (answer,) = found["answers"]
    assert answer["top"][0]["label"] == answer["label"] and len(answer["top"]) == 3


def test_command_answers_the_other_images(node, delivery, pictures, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    done = hosts.run(node, hosts.COMMAND, "predict", delivery.bundle, tmp_path / "x.jpg", pictures[0], *UNSIGNED)
    assert done.returncode == 2 and "x.jpg: The picture is cut off" in done.stderr
    assert re.fullmatch(rf"{pictures[0]}( +\w+ 0\.\d\d\d){{3}}\n", done.stdout)


def test_command_ends_quietly_when_nobody_reads(node, delivery, pictures):
    command = [node, hosts.COMMAND, "predict", delivery.bundle, *[pictures[0]] * 50, *UNSIGNED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(hosts.TIMEOUT_S) == 141 and running.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict", "{bundle}"], 2, "at least one image"),
        (["predict", "{bundle}", "/nowhere.png", "--allow-unsigned"], 2, "/nowhere.png"),
        (["predict", "/nowhere", "x.png"], 2, "there is no folder /nowhere"),
        (["verify", "{bundle}"], 1, "refused (unsigned)"),
        (["verify", "{update}", "--allow-unsigned"], 1, "refused (incomplete)"),
        (["update", "{bundle}", "{update}"], 2, "is a bundle as delivered"),
        (["rollback", "/nowhere"], 2, "there is no folder /nowhere"),
        (["verify", "{bundle}", "--product", "other", "--allow-unsigned"], 1, "refused (product)"),
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
    Image.new("1", (8001, 8000)).save(tmp_path / "wide.png")
    for name, said in (("x.jpg", "cut off"), ("wide.png", "more than the limit of 64 million")):
        done = hosts.run(node, hosts.COMMAND, "predict", delivery.bundle, tmp_path / name, *UNSIGNED)
        assert done.returncode == 2 and said in done.stderr


def test_what_only_python_reads_is_refused_by_name(node, tmp_path):
    Image.new("RGB", (20, 30)).save(tmp_path / "x.png")
    samples = np.full((9, 8), 4000, np.uint16)
    Image.fromarray(samples).save(tmp_path / "wide.png")
    (tmp_path / "x.tif").write_bytes(tiff(samples))
    (tmp_path / "x.dcm").write_bytes(dicom(samples))
    plain = forge.bundle(tmp_path / "plain")
    ranged = forge.bundle(tmp_path / "ranged", sample_range=[0, 4095.5])
    refused = "wide.png: The picture has 16 bits a sample. This bundle scales them from 0"
    answers = {(ranged, "x.png"): "", (plain, "wide.png"): "", (ranged, "wide.png"): refused}
    answers |= {(plain, name): f"This is {kind}, which only Python's" for name, kind in KINDS.items()}
    for (bundle, name), said in answers.items():
        done = hosts.run(node, hosts.COMMAND, "predict", bundle, tmp_path / name, *UNSIGNED)
        assert done.returncode == (2 if said else 0) and said in done.stderr, (name, done.stderr)
    with EdgeClassifier(ranged, allow_unsigned=True, provider="cpu") as classifier:
        assert classifier.predict(tmp_path / "x.tif").logits == pytest.approx(
            classifier.predict(np.full((9, 8, 3), int(4000 * 256 / 4095.5), np.uint8)).logits
        )


def test_external_data(node, signer_scene, tmp_path):
    """An encoder whose weights lie in a file of their own is served, and refused when they are changed."""
    folder = signer_scene.bundle(tmp_path / "bundle", external=True)
    assert hosts.run(node, hosts.COMMAND, "verify", folder, *UNSIGNED).returncode == 0
    shutil.copyfile(folder / "head.onnx", folder / "encoder.onnx.data")
    done = hosts.run(node, hosts.COMMAND, "verify", folder, *UNSIGNED)
    assert done.returncode == 1 and "refused (size)" in done.stderr


def test_decoding_is_pixel_equal(node, pictures, photos):
    """Not asked of decoders, but so: what is fed to the graphs is what the plugin's own reader gives."""
    script = hosts.HERE / "decode_host.mjs"
    done = hosts.run(node, script, *pictures, *photos[:30])
    assert done.returncode == 0, done.stderr
    for path, line in zip((*pictures, *photos[:30]), done.stdout.splitlines(), strict=True):
        image = np.asarray(open_rgb(path))
        assert line == f"{image.shape[0]} {image.shape[1]} {hosts.digest(image)}", path
