"""An adapter of a stranger is checked by type and against itself before anything is made of it."""

import hashlib
import json
import os

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from fedclip_plugin.cli.main import main
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.runs import load_adapter, save_adapter
from fedclip_plugin.runs.adapter_file import set_calibration

HEADER = {
    "method": "fedclip",
    "feature_dim": 4,
    "backbone": "clip-tiny",
    "fingerprint": "ab" * 32,
    "precision": "fp32",
    "logit_scale": 14.25,
    "classes": ["oak", "elm"],
    "prompt_template": "a picture of a {}",
    "round": 3,
    "recipe_digest": "cd" * 32,
    "metrics": {"target": 0.5},
    "format_version": 2,
}
SQUARE, ROW = np.ones((4, 4), np.float32), np.ones(4, np.float32)
ARRAYS = {
    "text_features": np.eye(2, 4, dtype=np.float32),
    **{f"adapter.{layer}.weight": SQUARE for layer in ("gate", "hidden")},
    **{f"adapter.{layer}.bias": ROW for layer in ("gate", "hidden")},
}


def forge(folder, header=None, arrays=None, weights=None):
    """Write an adapter whose checksum is right, whatever it says."""
    header, folder = dict(HEADER if header is None else header), folder / "adapter"
    weights = save_tensors(ARRAYS if arrays is None else arrays) if weights is None else weights
    header["sha256"] = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + weights).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.json").write_text(json.dumps(header))
    (folder / "adapter.safetensors").write_bytes(weights)
    return folder


def test_what_is_forged_here_is_otherwise_an_adapter(tmp_path):
    assert restore_adapter(load_adapter(forge(tmp_path))).gate.weight.shape == (4, 4)


def test_a_sample_range_may_be_there_or_not(tmp_path):
    ranged = load_adapter(forge(tmp_path / "ranged", HEADER | {"sample_range": [-1000, 400.5]}))
    assert ranged.sample_range == (-1000, 400.5)
    plain = load_adapter(forge(tmp_path / "plain"))
    assert plain.sample_range is None
    for name, adapter in (("ranged", ranged), ("plain", plain)):
        save_adapter(tmp_path / f"{name} again", adapter)
        written = json.loads((tmp_path / f"{name} again" / "adapter.json").read_text())
        assert written.get("sample_range", "none") == ([-1000, 400.5] if name == "ranged" else "none")


def test_a_calibration_may_be_there_or_not(tmp_path):
    told = {"temperature": 2.0, "threshold": 0.4, "false_reject_rate": 0.05, "images": 336}
    saved = load_adapter(forge(tmp_path / "calibrated", HEADER | {"calibration": told}))
    assert saved.calibration is not None
    assert (saved.calibration.to_json(), saved.answer_scale) == (told, HEADER["logit_scale"] / 2)
    plain = load_adapter(forge(tmp_path / "plain"))
    assert (plain.calibration, plain.answer_scale) == (None, HEADER["logit_scale"])
    for name, adapter in (("calibrated", saved), ("plain", plain)):
        save_adapter(tmp_path / f"{name} again", adapter)
        assert load_adapter(tmp_path / f"{name} again").calibration == adapter.calibration
    place = tmp_path / "plain again"
    set_calibration(place, saved.calibration)
    assert load_adapter(place).calibration == saved.calibration
    set_calibration(place, None)
    assert "calibration" not in json.loads((place / "adapter.json").read_text())


HEADERS = [
    ({"method": "sorcery"}, "method 'sorcery'; known here are zero_shot, fedclip"),
    ({"method": ["fedclip"]}, "method = .*must be text"),
    ({"feature_dim": "4"}, "feature_dim = '4', which must be a whole number"),
    ({"feature_dim": 4.0}, "feature_dim = 4.0"),
    ({"feature_dim": True}, "feature_dim = True"),
    ({"feature_dim": 0}, "feature_dim = 0"),
    ({"feature_dim": 10**12}, "feature_dim = 1000000000000"),
    ({"feature_dim": 512}, "2 classes and feature_dim 512 need"),
    ({"backbone": None}, "backbone = None"),
    ({"fingerprint": 7}, "fingerprint = 7"),
    ({"precision": "fp8"}, "precision = 'fp8', which must be fp32, bf16 or fp16"),
    ({"logit_scale": "14"}, "logit_scale = '14', which must be a number"),
    ({"logit_scale": float("nan")}, "logit_scale = nan"),
    ({"logit_scale": float("inf")}, "logit_scale = inf"),
    ({"logit_scale": 10**400}, "logit_scale = 1000"),
    ({"logit_scale": 1e300}, "logit_scale = 1e"),
    ({"logit_scale": 0}, "logit_scale = 0"),
    ({"logit_scale": True}, "logit_scale = True"),
    ({"classes": "oak"}, "classes = 'oak', which must be a list"),
    ({"classes": []}, "classes = "),
    ({"classes": ["oak", 7]}, "must be a list of different names"),
    ({"classes": ["oak", ["elm"]]}, "must be a list of different names"),
    ({"classes": ["oak", "oak"]}, "must be a list of different names"),
    ({"classes": ["oak"]}, r"text_features of shape \[2, 4\]; 1 classes"),
    ({"prompt_template": "a {0.__class__}"}, "prompt_template = .* no other brace"),
    ({"prompt_template": "{:>999999999}"}, "prompt_template"),
    ({"prompt_template": "{} {}"}, "prompt_template"),
    ({"prompt_template": "a tree"}, "prompt_template"),
    ({"prompt_template": 7}, "prompt_template"),
    ({"round": -1}, "round = -1, which must be"),
    ({"round": "3"}, "round = '3'"),
    ({"round": 2**63}, "round = 9223372036854775808"),
    ({"recipe_digest": {}}, "recipe_digest"),
    ({"metrics": [0.5]}, "metrics = .*must be an object"),
    ({"sample_range": [4095, 0]}, "sample_range = .*must be two finite numbers"),
    ({"sample_range": "0-4095"}, "sample_range = '0-4095'"),
    ({"sample_range": None}, "sample_range = None"),
    ({"calibration": {"temperature": 0}}, "calibration = .*must be an object of temperature"),
    ({"calibration": None}, "calibration = None"),
    ({"more\x1b[2J": 1}, r"has more\\x1b\[2J too many"),
    ({"format_version": None}, "adapter format None"),
    ({"format_version": [2]}, "adapter format"),
]
TENSORS = [
    ({"text_features": np.eye(7, 4, dtype=np.float32)}, r"text_features of shape \[7, 4\]; 2 classes"),
    ({"text_features": np.full((2, 4), np.nan, np.float32)}, "text_features with NaN"),
    ({"text_features": np.eye(2, 4)}, "text_features of type float64, which must be float32"),
    ({"text_features": np.ones((2, 4), np.int32)}, "type int32"),
    ({"class_features": SQUARE}, r"class_features of shape \[4, 4\]"),
    ({"class_features": np.full((2, 4), np.inf, np.float32)}, "class_features with NaN or infinite"),
    ({"adapter.gate.bias": ROW * np.float32("nan")}, r"gate\.bias with NaN"),
    ({"adapter.gate.bias": np.ones(4, np.float16)}, r"gate\.bias of type float16"),
]


@pytest.mark.parametrize(("changes", "message"), HEADERS)
def test_a_header_that_no_adapter_has_is_refused(tmp_path, changes, message):
    with pytest.raises(AdapterFileError, match=message) as refused:
        load_adapter(forge(tmp_path, HEADER | changes))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", [name for name in HEADER if name != "format_version"])
def test_a_header_that_lacks_something_is_refused(tmp_path, name):
    header = {key: value for key, value in HEADER.items() if key != name}
    with pytest.raises(AdapterFileError, match=f"lacks {name}"):
        load_adapter(forge(tmp_path, header))


@pytest.mark.parametrize(("changes", "message"), TENSORS)
def test_tensors_that_contradict_the_header_are_refused(tmp_path, changes, message):
    with pytest.raises(AdapterFileError, match=message):
        load_adapter(forge(tmp_path, arrays=ARRAYS | changes))


def test_an_adapter_without_text_features_is_refused(tmp_path):
    with pytest.raises(AdapterFileError, match="is not an adapter of this project: 'text_features'"):
        load_adapter(forge(tmp_path, arrays={"adapter.gate.bias": ROW}))


def announced(count):
    """Return safetensors that say they hold ``count`` numbers, and hold none."""
    spec = {"text_features": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    head = json.dumps(spec).encode()
    return len(head).to_bytes(8, "little") + head


@pytest.mark.parametrize("weights", [announced(10**12), b"", b"\xff" * 64, (2**62).to_bytes(8, "little")])
def test_what_is_announced_and_not_there_takes_no_memory(tmp_path, weights):
    with pytest.raises(AdapterFileError, match="is not an adapter of this project"):
        load_adapter(forge(tmp_path, weights=weights))


def test_a_wide_header_takes_no_memory_for_the_method(tmp_path):
    """A gate for features of this width would take 80 GB."""
    wide = {"text_features": np.ones((1, 100_000), np.float32)}
    saved = load_adapter(forge(tmp_path, HEADER | {"feature_dim": 100_000, "classes": ["oak"]}, ARRAYS | wide))
    with pytest.raises(AdapterFileError, match=r"does not fit method 'fedclip': .*hidden\.weight \[4, 4\] instead"):
        restore_adapter(saved)


@pytest.mark.parametrize("name", ["adapter.json", "adapter.safetensors"])
def test_what_is_no_file_is_not_waited_for(tmp_path, name):
    folder = forge(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(AdapterFileError, match="adapter"):
        load_adapter(folder)


def test_nested_json_is_refused(tmp_path):
    folder = forge(tmp_path)
    (folder / "adapter.json").write_text("[" * 100_000)
    with pytest.raises(AdapterFileError, match="cannot be read"):
        load_adapter(folder)


def test_a_width_that_the_backbone_does_not_have_is_refused(tmp_path):
    saved = load_adapter(forge(tmp_path))
    with pytest.raises(AdapterFileError, match="are 4 wide; those of here are 128"):
        saved.require_backbone(HEADER["fingerprint"], 128, "here")
    assert saved.require_backbone(HEADER["fingerprint"], 4, "here") is None


def test_commands_that_read_an_adapter_say_so_in_one_line(tmp_path, capsys):
    from fedclip_export.cli import main as export

    folder, place = str(forge(tmp_path, HEADER | {"classes": ["oak", "elm", "fir"]})), str(tmp_path)
    for act, words in (
        (main, ["evaluate", folder, place]),
        (main, ["predict", folder, f"{place}/a.png"]),
        (export, ["bundle", "--adapter", folder, "--out", f"{place}/bundle"]),
        (export, ["update", "--adapter", folder, "--against", place, "--out", f"{place}/update"]),
    ):
        assert act(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
