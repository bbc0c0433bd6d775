"""What the toy method goes through where its package is installed; run by ``tests/methods/test_toy_method.py``."""

import numpy as np
import onnxruntime
import torch

from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import head_graph
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.federated.startup.memory_estimate import update_bytes
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import load_adapter
from tests.support.in_process_federation import WIDTH, Federation


def test_it_is_federated_saved_restored_and_exported(tmp_path):
    Federation(tmp_path, method="toy_scale").run()
    saved = load_adapter(tmp_path / "adapters" / "final")
    assert (saved.method, saved.round, list(saved.tensors)) == ("toy_scale", 4, ["scales"])
    assert not np.allclose(saved.tensors["scales"], 1)
    features = np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32)
    wanted = Classifier(saved, device="cpu").logits_of(torch.from_numpy(features)).numpy()
    session = onnxruntime.InferenceSession(to_bytes(head_graph(saved, {})), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"image_features": features})[0], wanted, atol=1e-5)


def test_memory_and_disk_are_checked_by_its_own_count():
    recipe = load_recipe(find_recipe("miniature/clip_tiny_fedclip"), ["fedclip_args.method=toy_scale"])
    assert update_bytes(recipe, locate_backbone("clip-tiny")) == 4 * 128
