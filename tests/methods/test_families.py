"""Which methods work with which backbones."""

import pytest

from benchmarks.random_duals import write_random_open_clip, write_random_siglip2
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.errors import MethodError
from fedclip_plugin.methods.registry import METHODS, require_family


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return write_random_siglip2(tmp_path_factory.mktemp("siglip2") / "s", small=True)


@pytest.mark.parametrize("method", ["prompt", "text_lora", "prompt_generator", "full"])
def test_what_does_not_work_with_a_siglip_is_refused_by_name(siglip, method):
    told = f"method '{method}' does not work with backbone 'mine', of kind SigLIP: take one of .*fedclip, .*lora.*"
    with pytest.raises(MethodError, match=told):
        require_family(method, read_clip_config(siglip), "mine")


def test_all_others_go_with_a_siglip(siglip):
    config = read_clip_config(siglip)
    for method in set(METHODS) - {"prompt", "text_lora", "prompt_generator", "full"}:
        require_family(method, config, "mine")
    assert config.family == "siglip"


@pytest.mark.parametrize("method", ["prompt", "text_lora", "prompt_generator", "lora", "full"])
def test_methods_through_a_tower_are_refused_with_open_clip(tmp_path, method):
    config = read_clip_config(write_random_open_clip(tmp_path / "o", small=True))
    with pytest.raises(MethodError, match=f"method '{method}' does not work with backbone 'mine', of kind OpenCLIP"):
        require_family(method, config, "mine")
    require_family("fedclip", config, "mine")
