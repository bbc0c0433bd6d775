"""Execution providers: what is chosen, what is refused and why, and sessions that are what was asked for."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fedclip_edge.errors import BundleError, ExportError, MissingPackageError, ProviderError
from fedclip_edge.machine import cores
from fedclip_edge.runtime import providers
from fedclip_edge.runtime.providers import CPU, CUDA
from fedclip_edge.runtime.sessions import SessionMaker
from tests.support import forge

TENSORRT = "TensorrtExecutionProvider"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that pretends another machine: what onnxruntime lists and can load, whether it has a GPU."""

    def pretend(listed=(CUDA, CPU), loads=True, no_device="", distributions=("onnxruntime-gpu",)):
        def made(model, providers, enable_fallback):
            return SimpleNamespace(get_providers=lambda: list(providers) if loads else [CPU])

        module = SimpleNamespace(
            __version__="1.26.0",
            __file__=str(tmp_path / "__init__.py"),
            cuda_version="12.8",
            get_available_providers=lambda: list(listed),
            preload_dlls=lambda: print("Failed to load everything"),
            InferenceSession=made,
        )
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        monkeypatch.setattr(providers, "_no_device", lambda: no_device)
        monkeypatch.setattr(providers, "installed_distributions", lambda: list(distributions))
        monkeypatch.setattr(sys, "platform", "linux")

    return pretend


def test_cpu_is_taken_without_looking_for_others(machine, monkeypatch):
    machine()
    monkeypatch.setattr(sys.modules["onnxruntime"], "InferenceSession", lambda *_, **__: pytest.fail("CUDA was tried"))
    assert providers.choose("cpu") == ([CPU], "")


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_cuda_is_taken_where_it_loads(machine, capsys, asked):
    machine()
    assert providers.choose(asked) == ([CUDA, CPU], "")
    assert capsys.readouterr().out == "", "what preload_dlls prints would spoil JSON output"


def test_cuda_that_cannot_load_is_refused_with_the_reason_and_the_cure(machine):
    machine(loads=False)
    with pytest.raises(ProviderError) as caught:
        providers.choose("cuda")
    assert "onnxruntime 1.26.0, built for CUDA 12.8, cannot load it, and says why on stderr" in str(caught.value)
    assert "pip install 'fedclip-edge[cuda]'" in str(caught.value)


def test_cuda_without_a_gpu_or_without_a_gpu_build_is_refused(machine):
    machine(no_device="no NVIDIA driver (libcuda.so.1 not found)")
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        providers.choose("cuda")
    machine(listed=(CPU,))
    with pytest.raises(ProviderError, match="built without it"):
        providers.choose("cuda")


def test_auto_falls_back_to_the_cpu_and_says_so_where_a_gpu_lies_idle(machine):
    machine(loads=False)
    chosen, note = providers.choose("auto")
    assert chosen == [CPU] and "there is a GPU" in note and "onnxruntime 1.26.0" in note
    machine(no_device="no NVIDIA driver")
    assert providers.choose("auto") == ([CPU], "")
    machine(listed=(CPU,))
    assert providers.choose("auto") == ([CPU], "")


def test_unknown_provider_names_the_choices(machine):
    machine()
    with pytest.raises(ProviderError, match="'tpu' is not one of auto, cpu, cuda"):
        providers.choose("tpu")


def test_examine_reports_each_listed_provider(machine):
    machine(listed=(TENSORRT, CUDA, CPU), no_device="no NVIDIA driver")
    states = {state.name: state for state in providers.examine()}
    assert states[CPU].usable and states[CPU].reason == ""
    for name in (TENSORRT, CUDA):
        assert not states[name].usable
        assert states[name].reason == "no NVIDIA driver"


def test_a_provider_that_onnxruntime_refuses_to_load_is_told_in_its_words(machine):
    def refuse(model, providers, enable_fallback):
        raise RuntimeError("Please install TensorRT libraries")

    machine(listed=(TENSORRT, CPU))
    sys.modules["onnxruntime"].InferenceSession = refuse
    assert "cannot load it: Please install TensorRT libraries" in providers.examine()[0].reason


def test_the_smallest_model_is_one_that_the_real_onnxruntime_runs():
    session = providers.onnxruntime().InferenceSession(providers._SMALLEST_MODEL, providers=[CPU])
    assert session.run(None, {"x": np.float32([7])}) == [7]


def test_elsewhere_than_linux_the_list_is_believed(machine, monkeypatch):
    machine(loads=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert providers.examine()[0].usable


def test_missing_onnxruntime_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(providers, "installed_distributions", list)
    with pytest.raises(MissingPackageError, match=r"not installed: pip install 'fedclip-edge\[cpu\]'"):
        providers.choose("auto")


def test_a_folder_broken_by_two_distributions_says_how_to_mend_it(machine, monkeypatch):
    machine(distributions=("onnxruntime", "onnxruntime-gpu"))
    assert "pip uninstall onnxruntime onnxruntime-gpu" in providers.clash()
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__file__="nowhere"))
    with pytest.raises(MissingPackageError, match=r"installed but broken .*never both"):
        providers.onnxruntime()
    machine()
    assert providers.clash() == ""


def test_the_real_onnxruntime_is_examined():
    states = {state.name: state for state in providers.examine()}
    assert states[CPU].usable
    assert providers.choose("auto")[0][-1] == CPU


def test_a_session_that_fell_back_silently_is_refused(machine, monkeypatch):
    machine()
    module = sys.modules["onnxruntime"]
    module.SessionOptions = lambda: SimpleNamespace(add_session_config_entry=lambda key, value: None)
    maker = SessionMaker.choose("cuda", None, spinning=False)
    module.InferenceSession = lambda *_, **__: SimpleNamespace(get_providers=lambda: [CPU])
    with pytest.raises(ProviderError, match=f"on {CPU}, not on {CUDA}"):
        maker.encoder("encoder.onnx")
    assert maker.head(b"").get_providers() == [CPU]


def test_a_gpu_that_fails_when_the_session_is_made_is_not_blamed_on_the_bundle(machine):
    def fail(model, options, providers, enable_fallback):
        wanted.append((providers, enable_fallback))
        raise RuntimeError("CUDNN failure 4")

    machine()
    wanted = []
    module = sys.modules["onnxruntime"]
    module.SessionOptions = lambda: SimpleNamespace(add_session_config_entry=lambda key, value: None)
    maker = SessionMaker.choose("auto", None, spinning=False)
    module.InferenceSession = fail
    with pytest.raises(ProviderError, match="CUDNN failure 4; use --provider cpu"):
        maker.encoder("encoder.onnx")
    assert wanted == [([(CUDA, {"use_tf32": "0"}), CPU], 0)]


def test_sessions_have_the_threads_and_manners_that_were_asked_for(tmp_path):
    (tmp_path / "encoder.onnx").write_bytes(forge.encoder())
    maker = SessionMaker.choose("cpu", 3, spinning=False)
    made = {
        "encoder": maker.encoder(tmp_path / "encoder.onnx"),
        "preprocess": maker.preprocess(forge.preprocess()),
        "head": maker.head(forge.head()),
    }
    options = {name: session.get_session_options() for name, session in made.items()}
    assert {name: option.intra_op_num_threads for name, option in options.items()} == {
        "encoder": 3, "preprocess": 3, "head": 1
    }  # fmt: skip
    for option in options.values():
        assert option.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    spinning = SessionMaker.choose("cpu", None, spinning=True)
    assert spinning.threads == cores()
    entry = spinning.head(forge.head()).get_session_options().get_session_config_entry
    assert entry("session.intra_op.allow_spinning") == "1"


def test_no_threads_are_refused_and_graphs_that_do_not_load_are_named():
    with pytest.raises(ExportError, match="threads = 0"):
        SessionMaker.choose("cpu", 0, spinning=False)
    with pytest.raises(BundleError, match="cannot load the head") as caught:
        SessionMaker.choose("cpu", 1, spinning=False).head(b"\xff" * 40)
    assert caught.value.reason == "graph"
