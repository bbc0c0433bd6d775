"""Try something in a process of its own, which may fail in any way without harm to this one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass

from fedclip_plugin.errors import BackboneError

_SECONDS = 120


@dataclass(frozen=True)
class Probe:
    """How a try ended; ``fault`` is a line that says why it failed, empty when it did not."""

    fault: str
    out: str = ""
    err: str = ""


def probe(program: str, *words: str) -> Probe:
    """Run a Python program, or a command when there are ``words``, and wait for its end.

    Parameters
    ----------
    program
        Source text; the path of a command when words follow.
    words
        Of the command.
    """
    command = [program, *words] if words else [sys.executable, "-W", "ignore", "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return Probe(f"no answer within {_SECONDS} s")
    except OSError as error:
        return Probe(f"{command[0]} cannot be started: {error.strerror}")
    out, err = (told.decode(errors="replace") for told in (done.stdout, done.stderr))
    last = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "it said nothing")
    fault = f"ended by signal {-done.returncode}" if done.returncode < 0 else last
    return Probe(fault if done.returncode else "", out, err)


# A session is opened on every provider: onnxruntime falls back to the CPU without an error, and tells why on stderr.
_PROBE = """
import json, sys, onnx, onnxruntime
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
if hasattr(onnxruntime, "preload_dlls"):
    onnxruntime.preload_dlls()
usable = {}
for name in onnxruntime.get_available_providers():
    usable[name] = name in onnxruntime.InferenceSession(model, providers=[name]).get_providers()
    print("end of", name, file=sys.stderr, flush=True)
print()
print(json.dumps([onnxruntime.__version__, usable]))
"""
_MISSING = re.compile(r"(lib\S+): cannot open shared object file")


def probe_onnxruntime() -> tuple[str, dict[str, str]]:
    """Return onnxruntime's version, and by provider why it cannot be used (empty when it can)."""
    done = probe(_PROBE)
    if done.fault:
        raise BackboneError(
            f"onnxruntime cannot be used: {done.fault}; uninstall onnxruntime and onnxruntime-gpu, then install "
            "fedclip-plugin again"
        )
    version, usable = json.loads(done.out.splitlines()[-1])
    reasons, told = {}, done.err
    for name, works in usable.items():
        said, _, told = told.partition(f"end of {name}\n")
        reasons[name] = "" if works else _reason(said)
    return str(version), reasons


def _reason(said: str) -> str:
    missing = _MISSING.search(said)
    return f"{missing[1]} is missing" if missing else "it finds no device, or not the libraries that it was built for"
