"""What happens to device folders: commands, and damage between them; D is the folder, other words name deliveries."""

import shutil


def overwrite(path, content):
    path.unlink()  # a device makes the files of its rounds read-only
    path.write_bytes(content)


def damage_head(device):
    head = next((device / "rounds").glob("200/head.onnx"))
    overwrite(head, head.read_bytes()[:-1])


def damage_manifest(device):
    for path in (device / "rounds").glob("*/manifest.json"):
        overwrite(path, path.read_bytes()[:-1])


def lose_base(device):
    shutil.rmtree(device / "base")


def flip_base(device):
    for path in (device / "base").glob("*/encoder.onnx"):
        overwrite(path, bytes([*path.read_bytes()[:-1], 7]))


def lose_state(device):
    (device / "state.json").unlink()


def spoil_state(device):
    (device / "state.json").write_bytes(b'{"schema":1}')


def spoil_key(device):
    next((device / "keys").glob("*.pub")).write_bytes(b"no key")


def lose_keys(device):
    shutil.rmtree(device / "keys")


def bar_keys(device):
    lose_keys(device)
    (device / "keys").write_bytes(b"no folder, so that nobody can list it")


def rotate(device):
    next((device / "keys").glob("*.pub")).unlink()
    shutil.copyfile(device.parent / "b.pub", device / "keys" / "b.pub")


THIRD, SAME = ["update", "D", "third"], ["update", "D", "same"]
FIRST, KEYLESS = ["update", "D", "bundle", "--key", "a.pub"], ["update", "D", "unsigned"]
NEXT, BACK, LOOK, ASK = ["update", "D", "update-a"], ["rollback", "D"], ["verify", "D"], ["predict", "D", "x.png"]
STORIES = {
    "a key that is not kept": [FIRST, [*ASK, "--key", "b.pub"], [*NEXT, "--key", "b.pub"], [*NEXT, "--key", "a.pub"]],
    "keys for a device without": [KEYLESS, [*ASK, "--key", "a.pub"], [*NEXT, "--key", "b.pub"],
                                  [*NEXT, "--key", "a.pub"]],
    "kept keys are enforced": [KEYLESS, [*NEXT, "--key", "a.pub"], ["update", "D", "unsigned"], ASK, BACK],
    "first of two keys": [[*FIRST, "--key", "b.pub"], ["update", "D", "update-b"], ASK],
    "not signed by the key": [["update", "D", "bundle", "--key", "b.pub"], LOOK],
    "an update first": [["update", "D", "update-a"], FIRST],
    "head damaged, given again": [FIRST, NEXT, damage_head, ASK, LOOK, NEXT, LOOK, NEXT],
    "head damaged, given up": [FIRST, NEXT, damage_head, BACK, ASK, NEXT, BACK],
    "head damaged, newer": [FIRST, NEXT, damage_head, THIRD, BACK],
    "only round damaged": [FIRST, damage_manifest, ASK, NEXT, FIRST, ASK],
    "all manifests damaged": [FIRST, NEXT, damage_manifest, ASK, NEXT, SAME, ASK],
    "base lost": [FIRST, NEXT, lose_base, ASK, BACK, NEXT, THIRD, SAME, ASK, BACK],
    "base changed": [FIRST, NEXT, flip_base, ASK, ["update", "D", "bundle"], SAME, ASK],
    "base changed, newer": [FIRST, NEXT, flip_base, ["update", "D", "newer"], ASK],
    "state lost": [FIRST, lose_state, ASK, NEXT, FIRST, BACK],
    "state spoiled": [FIRST, spoil_state, ASK, NEXT],
    "key spoiled": [FIRST, spoil_key, ASK, NEXT],
    "keys lost": [FIRST, lose_keys, ASK, NEXT, [*NEXT, "--key", "a.pub"]],
    "keys not to be read": [FIRST, bar_keys, ASK, NEXT, [*NEXT, "--key", "a.pub"]],
    "rotation": [FIRST, NEXT, rotate, ASK, ["update", "D", "update-b"], THIRD],
    "rollback": [FIRST, BACK, NEXT, BACK, BACK, NEXT, THIRD, BACK],
    "older and other": [FIRST, NEXT, FIRST, ["update", "D", "update-outside"], ["update", "D", "other"],
                        THIRD],
    "against": [FIRST, ["verify", "update-a", "--against", "D"], ["verify", "update-a", "--against", "bundle"], NEXT,
                ["verify", "update-a", "--against", "D"], ["verify", "update-a"],
                ["verify", "bundle", "--against", "D"]],
    "other product": [FIRST, [*ASK, "--product", "other"], [*NEXT, "--product", "other"]],
    "no folder": [ASK, LOOK, BACK, ["update", "D", "nowhere"], ["update", "x.png", "bundle"],
                  ["update", "bundle", "update-a"]],
    "images": [["predict", "bundle", "x.png", "nowhere.png", "a.pub"], ["predict", "bundle", "x.png", "--top", "9"]],
}  # fmt: skip
