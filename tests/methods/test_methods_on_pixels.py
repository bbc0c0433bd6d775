"""Methods that train CLIP's towers: they start as zero-shot CLIP, learn, and send what they train and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from fedclip_miniature import render_image
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.features import TextFeatures, prompts_of
from fedclip_plugin.methods import METHODS, AdapterInputs, create_adapter, load_parameters, parameters_of
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.methods.losses import contrastive_loss
from fedclip_plugin.methods.registry import LORA_RANK
from fedclip_plugin.runs import SavedAdapter

CPU = torch.device("cpu")
TINY = locate_backbone("clip-tiny")
CLASSES, TEMPLATE = ("dog", "elephant", "guitar"), "a picture of a {}"
PROMPTS = prompts_of(CLASSES, TEMPLATE)
ON_PIXELS = sorted(name for name, spec in METHODS.items() if spec.on_pixels)


def load(precision="fp32"):
    return FrozenClip(TINY, CPU, precision)


@pytest.fixture(scope="module")
def clip():
    return load()


@pytest.fixture(scope="module")
def text(clip):
    return TextFeatures(clip.encode_prompts(PROMPTS), clip.logit_scale)


@pytest.fixture(scope="module")
def drawings():
    return [Image.fromarray(render_image("cartoon", label, index)) for label in CLASSES for index in range(4)]


@pytest.fixture(scope="module")
def levels(clip, drawings):
    return torch.from_numpy(np.stack([clip.preprocessing.crop(image) for image in drawings]))


@pytest.fixture(scope="module")
def labels():
    return torch.arange(len(CLASSES)).repeat_interleave(4)


def zero_shot(clip, drawings, text):
    pixels = torch.from_numpy(np.stack([clip.preprocess(image) for image in drawings]))
    return text.logit_scale * torch.nn.functional.normalize(clip.encode_pixels(pixels), dim=-1) @ text.features.T


def make(method, text, seed=0, precision="fp32", **options):
    return create_adapter(method, AdapterInputs(text, PROMPTS, lambda: load(precision)), seed, **options)


def train(adapter, levels, labels, text, steps=5, rate=1e-4):
    optimizer = torch.optim.Adam([p for p in adapter.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = adapter.loss(levels, labels, text)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_there_are_two_methods_on_pixels():
    assert ON_PIXELS == ["full", "lora"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ON_PIXELS)
def test_round_zero_is_zero_shot(method, precision, text, drawings, levels):
    told = zero_shot(load(precision), drawings, text)
    with torch.no_grad():
        torch.testing.assert_close(
            make(method, text, precision=precision).logits(levels, text), told, atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("method", ON_PIXELS)
def test_half_precision_trains_in_float32(method, text, drawings, levels, clip):
    adapter = make(method, text, precision="fp16")
    assert adapter.precision == "fp32"
    with torch.no_grad():
        torch.testing.assert_close(adapter.logits(levels, text), zero_shot(clip, drawings, text), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("method", "rate"), [("full", 1e-4), ("lora", 1e-2)])
def test_the_loss_falls_and_features_keep_unit_length(method, rate, precision, text, levels, labels):
    adapter = make(method, text, precision=precision)
    losses = train(adapter, levels, labels, text, steps=8, rate=rate)
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        for features in (adapter(levels), adapter.class_features(text)):
            assert features.dtype is torch.float32
            torch.testing.assert_close(features.norm(dim=-1), torch.ones(len(features)))


def test_full_trains_all_of_clip_under_the_names_of_transformers(text, levels, labels, clip):
    adapter = make("full", text)
    adapter.loss(levels, labels, text).backward()
    assert {name: p.shape for name, p in parameters_of(adapter).items()} == {
        name: p.shape for name, p in clip.model.named_parameters()
    }
    assert set(adapter.state_dict()) == set(parameters_of(adapter)), "tokens and normalisation are not saved"
    still = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in still if "k_proj.bias" not in name] == [], "a key's bias cancels in the softmax"


def test_full_encodes_the_prompts_of_the_classes_in_a_batch_only(text, levels):
    adapter, labels = make("full", text, dtype=torch.float64), torch.tensor([2, 0, 2, 2])
    whole = contrastive_loss(adapter(levels[:4]), adapter.class_features(text), labels, adapter.scale(text))
    seen = []
    adapter.text_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    torch.testing.assert_close(adapter.loss(levels[:4], labels, text), whole)
    assert seen == [(2, adapter.ids.shape[1])]
    assert adapter.ids.shape[1] == int(adapter.mask.sum(-1).max())


def test_full_takes_the_backbone_over_instead_of_copying_it(text):
    given = load()
    weight = given.model.visual_projection.weight
    adapter = create_adapter("full", AdapterInputs(text, PROMPTS, lambda: given), seed=0)
    assert adapter.visual_projection.weight is weight
    with pytest.raises(AttributeError):
        given.encode_pixels(torch.zeros(1, 3, 64, 64))


def test_lora_trains_its_own_matrices_and_nothing_else(text, levels, labels, clip):
    adapter = make("lora", text)
    shapes = {"a.weight": (LORA_RANK, 128), "b.weight": (128, LORA_RANK)}
    assert {name: tuple(p.shape) for name, p in parameters_of(adapter).items()} == {
        f"layers.{layer}.{projection}.{name}": shape
        for layer in range(4)
        for projection in ("q_proj", "v_proj")
        for name, shape in shapes.items()
    }
    train(adapter, levels, labels, text, steps=3, rate=1e-2)
    tower, told = adapter.vision_model, clip.model.vision_model
    query = tower.encoder.layers[0].self_attn.q_proj
    assert torch.equal(query.base_layer.weight, told.encoder.layers[0].self_attn.q_proj.weight)
    assert torch.equal(tower.encoder.layers[3].mlp.fc1.weight, told.encoder.layers[3].mlp.fc1.weight)
    assert torch.equal(adapter.visual_projection.weight, clip.model.visual_projection.weight)
    assert all(p.abs().sum() > 0 for p in parameters_of(adapter).values()), "B has left zero"


def test_lora_computes_its_equation(text, levels, clip):
    adapter = make("lora", text)
    moved = {name: 0.1 * torch.randn_like(tensor) for name, tensor in parameters_of(adapter).items()}
    load_parameters(adapter, moved)
    plain = load().hand_over()
    for number, layer in enumerate(plain.vision_model.encoder.layers):
        for projection in ("q_proj", "v_proj"):
            a, b = (moved[f"layers.{number}.{projection}.{name}.weight"] for name in "ab")
            getattr(layer.self_attn, projection).weight.add_(b @ a)
    pixels = clip.preprocessing.normalization()(levels)
    with torch.no_grad():
        told = plain.visual_projection(plain.vision_model(pixel_values=pixels).pooler_output)
        torch.testing.assert_close(adapter(levels), torch.nn.functional.normalize(told, dim=-1), atol=1e-5, rtol=0)


def test_loras_first_weights_depend_on_the_seed_alone(text):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = parameters_of(make("lora", text, seed=5))
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    torch.manual_seed(2)
    second, other = parameters_of(make("lora", text, seed=5)), parameters_of(make("lora", text, seed=6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("a.weight"))
    assert not any(first[name].any() for name in first if name.endswith("b.weight"))


def saved(method, adapter, text, **changes):
    fields = {
        "method": method,
        "feature_dim": 128,
        "backbone": "clip-tiny",
        "fingerprint": fingerprint(TINY),
        "precision": "fp32",
        "logit_scale": text.logit_scale,
        "classes": CLASSES,
        "prompt_template": TEMPLATE,
        "round": 3,
        "recipe_digest": "d",
        "text_features": text.features.numpy(),
        "tensors": {name: tensor.numpy() for name, tensor in parameters_of(adapter).items()},
    }
    return SavedAdapter(**fields | changes)


@pytest.mark.parametrize("method", ON_PIXELS)
def test_another_backbone_or_a_missing_tensor_is_refused(method, text):
    adapter = make(method, text)
    with pytest.raises(AdapterFileError, match="trained on backbone clip-tiny"):
        restore_adapter(saved(method, adapter, text, fingerprint="f" * 64))
    short = saved(method, adapter, text)
    name, *rest = short.tensors
    with pytest.raises(AdapterFileError, match=f"does not fit method '{method}': .*{name}"):
        restore_adapter(saved(method, adapter, text, tensors={key: short.tensors[key] for key in rest}))


@pytest.mark.parametrize(("method", "count"), [("full", 151_277_313), ("lora", 147_456)])
def test_clip_vit_b32_has_the_parameters_that_are_stated(method, count, clip):
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig())
    large = SimpleNamespace(
        device=CPU,
        precision="fp32",
        preprocessing=clip.preprocessing,
        tokenize=clip.tokenize,
        hand_over=lambda: model.requires_grad_(False),
    )
    adapter = create_adapter(
        method, AdapterInputs(TextFeatures(torch.zeros(3, 512), 100.0), PROMPTS, lambda: large), seed=0
    )
    trained = [p for p in adapter.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == count
    assert len({name for name, p in adapter.named_parameters() if p.requires_grad}) == len(trained)
