"""Ways to tamper with a bundle of forge.py: each is a function of its folder and of the path of the private key."""

import shutil

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedclip_edge.bundle import keys
from tests.support.forge import (
    WIDTH,
    base64_of,
    bundle,
    canonical,
    features,
    head,
    head_graph,
    head_weights,
    images,
    put_manifest,
    read,
    sha256,
)


def resigned(change):
    """Return an attack by somebody who holds the key: the manifest is changed by ``change`` and signed again."""

    def apply(folder, key):
        described = read(folder)
        change(described)
        put_manifest(folder, described, key)

    return apply


def setting(path, value):
    """Return ``resigned`` for one field, its path written ``files/head.onnx/size``."""

    def change(described):
        *parents, last = path.split("/")
        for parent in parents:
            described = described[parent]
        described[last] = value

    return resigned(change)


def respelled(spell):
    """Return an attack that signs other bytes, ``spell(manifest as a dictionary)``, as the manifest."""
    return lambda folder, key: put_manifest(folder, spell(read(folder)), key)


def replaced(name, make):
    """Return an attack by somebody who holds the key: another file under this name, listed properly and signed."""

    def apply(folder, key):
        content = make()
        (folder / name).write_bytes(content)
        described = read(folder)
        described["files"][name] |= {"size": len(content), "sha256": sha256(content)}
        put_manifest(folder, described, key)

    return apply


def overwrite(path, content):
    """Put other content under a name, also where a device has made the file read-only."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def flipped(name):
    def apply(folder, key):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        overwrite(folder / name, bytes(content))

    return apply


def cut(name):
    def apply(folder, key):
        content = (folder / name).read_bytes()
        overwrite(folder / name, content[: len(content) // 2])

    return apply


def written(name, content):
    return lambda folder, key: overwrite(folder / name, content)


def appended(name, content):
    return lambda folder, key: overwrite(folder / name, (folder / name).read_bytes() + content)


def linked(name):
    """Return an attack that moves a file away and leaves a symbolic link to it."""

    def apply(folder, key):
        away = folder.with_name(folder.name + "-away")
        shutil.move(folder / name, away)
        (folder / name).symlink_to(away)

    return apply


def instead(name, make):
    def apply(folder, key):
        (folder / name).unlink()
        make(folder / name)

    return apply


def signed_by_mallory(folder, key):
    mallory = folder.with_name(folder.name + "-mallory")
    keys.generate(mallory)
    put_manifest(folder, read(folder), mallory)


def mixed(names):
    """Return an attack that takes these files from another bundle, signed with the same key."""

    def apply(folder, key):
        other = bundle(folder.with_name(folder.name + "-other"), round=3, sequence=300, key=key, encoder_seed=5)
        for name in names:
            shutil.copyfile(other / name, folder / name)

    return apply


def drop(name):
    return resigned(lambda described: described.pop(name))


def renamed_encoder(name):
    return resigned(lambda described: described["files"].__setitem__(name, described["files"].pop("encoder.onnx")))


def fewer_labels(described):
    described["labels"] = described["labels"][:2]
    seen = features(images())
    described["golden"]["logits"] = base64_of(seen @ head_weights(2)[:2].T)


def other_width(described):
    described["feature_dim"] = 2 * WIDTH
    described["golden"]["features"] = base64_of(np.zeros((2, 2 * WIDTH)))


def head_with_external_data():
    made = onnx.load_from_string(head(2))
    onnx.external_data_helper.set_external_data(made.graph.initializer[0], "../secret")
    made.graph.initializer[0].ClearField("raw_data")
    return made.SerializeToString(deterministic=True)


def head_with_hidden_external_data():
    """Return a head with external data where few look: in a constant inside a branch of an If."""
    made = onnx.load_from_string(head(2))
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])],
    )
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    made.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))
    return made.SerializeToString(deterministic=True)


def int8_in_another_order(described):
    """Swap features whose cosine is 0.9999: only what is left without their mean tells them apart."""
    seen = features(images())[::-1]
    described["precision"] = "int8"
    described["golden"] |= {"features": base64_of(seen), "logits": base64_of(seen @ head_weights(2).T)}


def head_with_nan():
    weights = head_weights(2)
    weights[1, 1] = np.nan
    return head_graph(weights)


def twice_a_key(described):
    return canonical(described).replace(b'"round":2', b'"round":2,"round":2')


def deep(described):
    return canonical(described).replace(
        b'"parity":{', b'"parity":{"a":' + b'{"a":' * 20000 + b'"b"' + b"}" * 20000 + b",", 1
    )


def golden_of(**arrays):
    return resigned(lambda described: described["golden"].update({k: base64_of(v) for k, v in arrays.items()}))
