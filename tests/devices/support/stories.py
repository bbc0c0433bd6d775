"""What happens to device folders: commands and damage between them, and what each command has to answer.

D is the folder, other words name deliveries. An answer is the round that serves afterwards, or the reason of a refusal.
"""


def damage_head(device):
    head = device / "round-200" / "head.onnx"
    head.write_bytes(head.read_bytes()[:-1])


def damage_manifests(device):
    for path in device.glob("round-*/manifest.json"):
        path.write_bytes(path.read_bytes()[:-1])


def lose_base(device):
    next(device.glob("encoder-*/encoder.onnx")).unlink()


def flip_base(device):
    path = next(device.glob("encoder-*/encoder.onnx"))
    path.write_bytes(bytes([*path.read_bytes()[:-1], 7]))


def lose_state(device):
    (device / "state.json").unlink()


def spoil_state(device):
    (device / "state.json").write_bytes(b'{"sequence":1}')


def spoil_key(device):
    state = (device / "state.json").read_text()
    (device / "state.json").write_text(state.replace('"keys":["', '"keys":["!'))


ANY = "--allow-unsigned"
FIRST, KEYLESS = ["update", "D", "bundle", "--key", "a.pub"], ["update", "D", "unsigned", ANY]
NEXT, THIRD, SAME = ["update", "D", "update-a"], ["update", "D", "third"], ["update", "D", "same"]
BACK, LOOK, ASK = ["rollback", "D"], ["verify", "D"], ["predict", "D", "x.png"]
HELD = ["keys", "D"]
STORIES = {
    "unsigned": [(["update", "D", "unsigned"], "unsigned"), (KEYLESS, 1), (ASK, "unsigned"), ([*ASK, ANY], 1)],
    "a key that is not kept": [(FIRST, 1), ([*ASK, "--key", "b.pub"], "EdgeError"),
                               ([*NEXT, "--key", "b.pub"], "EdgeError"), ([*NEXT, "--key", "a.pub"], 2)],
    "keys for a device without": [(KEYLESS, 1), ([*ASK, "--key", "a.pub"], "unsigned"),
                                  ([*NEXT, "--key", "b.pub"], "signature"), ([*NEXT, "--key", "a.pub"], 2),
                                  ([*THIRD, ANY], 3), (["update", "D", "unsigned-third", ANY], "unsigned")],
    "kept keys are enforced": [(FIRST, 1), (["update", "D", "unsigned-third", ANY], "unsigned"),
                               (["update", "D", "update-b", ANY], "signature"), (ASK, 1)],
    "first of two keys": [([*FIRST, "--key", "b.pub"], 1), (["update", "D", "update-b"], 2), (ASK, 2)],
    "not signed by the key": [(["update", "D", "bundle", "--key", "b.pub"], "signature"), (LOOK, "EdgeError")],
    "an update first": [([*NEXT, "--key", "a.pub"], "incomplete"), (FIRST, 1)],
    "head damaged, given again": [(FIRST, 1), (NEXT, 2), damage_head, (ASK, 1), (NEXT, 2), (LOOK, 2), (NEXT, "replay")],
    "head damaged, given up": [(FIRST, 1), (NEXT, 2), damage_head, (BACK, 1), (ASK, 1), (NEXT, "replay"),
                               (BACK, "device-state")],
    "head damaged, newer": [(FIRST, 1), (NEXT, 2), damage_head, (THIRD, 3), (BACK, 1)],
    "only round damaged": [(FIRST, 1), damage_manifests, (ASK, "signature"), (NEXT, "incomplete"), (FIRST, 1),
                           (ASK, 1)],
    "all manifests damaged": [(FIRST, 1), (NEXT, 2), damage_manifests, (ASK, "signature"), (NEXT, "incomplete"),
                              (SAME, 2), (ASK, 2)],
    "base lost": [(FIRST, 1), (NEXT, 2), lose_base, (ASK, "missing-file"), (BACK, "missing-file"),
                  (NEXT, "missing-file"), (THIRD, "missing-file"), (SAME, 2), (ASK, 2)],
    "base changed": [(FIRST, 1), (NEXT, 2), flip_base, (ASK, "hash"), (FIRST, "rollback"), (SAME, 2), (ASK, 2)],
    "state lost": [(FIRST, 1), lose_state, (ASK, "device-state"), (NEXT, "device-state"), (FIRST, "device-state"),
                   (BACK, "device-state")],
    "state spoiled": [(FIRST, 1), spoil_state, (ASK, "device-state"), (NEXT, "device-state")],
    "key spoiled": [(FIRST, 1), spoil_key, (ASK, "device-state"), (NEXT, "device-state")],
    "rollback": [(FIRST, 1), (BACK, "device-state"), (NEXT, 2), (BACK, 1), (BACK, "device-state"), (NEXT, "replay"),
                 (THIRD, 3), (BACK, 1)],
    "older and other": [(FIRST, 1), (NEXT, 2), (FIRST, "rollback"), (["update", "D", "update-outside"], "replay"),
                        (["update", "D", "third-outside"], "other-encoder"), (["update", "D", "other"], 3),
                        (THIRD, "replay"), (ASK, 3), (BACK, 2)],
    "external data": [(["update", "D", "outside", "--key", "a.pub"], 1), (["update", "D", "update-outside"], 2),
                      (ASK, 2), (BACK, 1)],
    "against": [(FIRST, 1), (["verify", "update-a", "--against", "D"], 2),
                (["verify", "update-a", "--against", "bundle", "--key", "a.pub"], 2), (NEXT, 2),
                (["verify", "update-a", "--against", "D"], "replay"),
                (["verify", "update-a", "--key", "a.pub"], "incomplete"),
                (["verify", "bundle", "--against", "D"], "rollback")],
    "other product": [(FIRST, 1), ([*ASK, "--product", "other"], "product"),
                      ([*NEXT, "--product", "other"], "product")],
    "no folder": [(ASK, "EdgeError"), (LOOK, "EdgeError"), (BACK, "EdgeError"),
                  (["update", "D", "nowhere"], "EdgeError"), (["update", "x.png", "bundle"], "EdgeError"),
                  (["update", "bundle", "update-a"], "EdgeError")],
    "keys rotate": [(FIRST, 1), (["update", "D", "third-announced"], "signature"), (["update", "D", "announces"], 2),
                    (HELD, ["a", "b"]), (["update", "D", "third-announced"], 3), ([*HELD, "--remove", "a"], ["b"]),
                    (["update", "D", "fourth-a"], "signature"), ([*HELD, "--remove", "b"], "EdgeError"), (ASK, 3)],
    "keys of nobody": [(KEYLESS, 1), (["update", "D", "announces", ANY], 2), (HELD, [])],
    "keys of a refused update": [(FIRST, 1), (NEXT, 2), (["update", "D", "announces"], "replay"), (HELD, ["a"])],
    "keys that are none": [(FIRST, 1), (["update", "D", "announces-wrong"], "malformed"), (HELD, ["a"])],
    "keys by hand": [(FIRST, 1), ([*HELD, "--add", "b.pub", "--remove", "a"], ["b"]), (ASK, "signature"),
                     (["update", "D", "update-b"], 2), (ASK, 2)],
}  # fmt: skip
