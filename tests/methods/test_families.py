"""Which methods work with which backbones."""

import pytest

from benchmarks.random_duals import write_random_siglip2
from fedclip_plugin.backbone.clip_config import read_clip_config
from fedclip_plugin.errors import MethodError
from fedclip_plugin.methods.registry import METHODS, require_family


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return write_random_siglip2(tmp_path_factory.mktemp("siglip2") / "s", small=True)


@pytest.mark.parametrize("method", ["prompt", "full"])
def test_what_does_not_work_with_a_siglip_is_refused_by_name(siglip, method):
    told = f"method '{method}' does not work with backbone 'mine', a SigLIP: take one of .*fedclip, .*lora.*"
    with pytest.raises(MethodError, match=told):
        require_family(method, read_clip_config(siglip), "mine")


def test_all_others_go_with_a_siglip(siglip):
    config = read_clip_config(siglip)
    for method in set(METHODS) - {"prompt", "full"}:
        require_family(method, config, "mine")
    assert config.family == "siglip"
