"""Python and JavaScript judge the same bytes alike: JSON, manifests and graphs, whole and mutated."""

import base64
import copy
import random

from fedclip_edge.bundle import Manifest, canonical, graph_guard
from fedclip_edge.errors import BundleError
from tests.devices.support import hosts
from tests.support import forge

SPELLINGS = [
    b"", b" ", b"{", b"[1,2]", b"[1, 2]", b'{"a":1,"b":[]}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', b'{"a":1,"a":1',
    b"1.0", b"-0", b"01", b"1e3", b"NaN", b"9007199254740991", b"9007199254740992", b"-9007199254740991", b"1" * 40,
    b'"\\u00e9"', b'"\\u00E9"', '"\u00e9"'.encode(), b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"\x7f"', b'"\\u007f"',
    b'"\\/"', b'"\\n\\t\\b\\f\\r"', b'"\\u000a"', b'"\n"', b'"a', b'"\\x"', b'"\\u12"', b"nul", b"null",
    b"truefalse", b"\xef\xbb\xbf1", b'"\xff"', b"1\n", b'{"\\u00e9":1}', b'{"__proto__":1}',
    b'{"a":{"__proto__":1,"b":2}}', b'{"a" :1}', b"[" * 32 + b"]" * 32, b"[" * 33 + b"]" * 33, b'{"a":1,}', b"[1,]",
    b'{1:2}', b'{"a"}', b"[1.5", b'{"B":1,"a":2}', b'{"a":1,"B":2}', b"+1", b".5", b"--1", b"1 2",
    b'"\\ude00\\ud83d"',
]  # fmt: skip


VALUES = (
    *(None, True, False, -1, 0, 1, 3, 5000, 2**53 - 1),
    *("", "a", "0", "1.16", "é", "\ud800", "A" * 64, "f" * 64),
    *([], {}, [[]], ["a"], ["a", "a"], {"a": "b"}, {"a": {"b": "c"}}, {"é": "a"}),
)
MUTANTS = 1500


def reason(judge, raw):
    try:
        judge(raw)
    except BundleError as error:
        return error.reason
    return None


def compare(action, judge, texts, **job):
    found = hosts.ask("node_host.mjs", {"action": action, "texts": [encode(raw) for raw in texts]} | job)
    apart = [
        (raw, node, python) for raw, node in zip(texts, found, strict=True) if (python := reason(judge, raw)) != node
    ]
    assert apart == []
    return set(found)


def encode(raw):
    return base64.b64encode(raw).decode()


def described():
    files = {
        "head.onnx": ("head", forge.head()),
        "encoder.onnx": ("encoder", forge.encoder()),
        "preprocess.onnx": ("preprocess", forge.preprocess()),
    }
    return forge.manifest(files)


def places(value, path=()):
    """Yield the path of every member of every object and array."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(value, chance):
    """Return a copy in which one member was replaced, removed, renamed or copied to another place."""
    result = copy.deepcopy(value)
    spots = list(places(result))
    *parents, last = chance.choice(spots)
    holder = result
    for key in parents:
        holder = holder[key]
    way = chance.randrange(4)
    if way == 0:
        holder[last] = copy.deepcopy(chance.choice(VALUES))
    elif way == 1:
        del holder[last]
    elif way == 2 and isinstance(holder, dict):
        holder[chance.choice(("other", "Head.onnx", "a/b", "x" * 65, "encoder.onnx.data"))] = holder.pop(last)
    else:
        other = result
        for key in chance.choice(spots):
            if not (isinstance(other, dict) and key in other):
                break
            other = other[key]
        holder[last] = copy.deepcopy(other)
    return result


def flipped(raw, chance):
    content = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(content))
        way = chance.randrange(3)
        if way == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            del content[at : at + chance.randint(1, 4)]
        else:
            content[at:at] = content[at : at + chance.randint(1, 8)]
    return bytes(content)


def test_json(node):
    assert len(compare("parse", canonical.parse, SPELLINGS)) == 4


def test_mutated_manifests(node):
    chance, whole = random.Random(1), described()
    texts = [forge.canonical(changed(whole, chance)) for _ in range(MUTANTS)]
    texts += [flipped(forge.canonical(whole), chance) for _ in range(MUTANTS)]
    reasons = compare("manifests", Manifest.from_bytes, texts)
    assert reasons >= {"malformed", "file-name", "labels", "not-json", "not-canonical", "schema"}


def test_mutated_heads(node):
    chance, raw = random.Random(2), forge.canonical(described())
    manifest = Manifest.from_bytes(raw)
    texts = [flipped(forge.head(), chance) for _ in range(2 * MUTANTS)]
    reasons = compare("heads", lambda content: graph_guard.check_head(content, manifest), texts, manifest=encode(raw))
    assert reasons >= {"graph", None}
