"""Prompt learning: zero-shot at first, the tower against transformers' own, and what is trained."""

import dataclasses

import pytest
import torch

from fedclip_plugin.errors import AdapterFileError, RecipeError
from fedclip_plugin.features import prompts_of
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import create_adapter, load_parameters, parameters_of
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.methods.registry import PROMPT_VECTORS
from fedclip_plugin.methods.text_tower.context_tower import ContextTower
from tests.support.workshop import clip_tiny, frozen_clip_tiny

CLASSES = ("dog", "polar_bear", "aquamarine grand piano")
PICTURE, BARE, BEHIND = "a picture of a {}", "{}", "{} in a picture"
POSITIONS = 24


def prompt(template=PICTURE, classes=CLASSES, seed=0, dtype=torch.float32):
    built_on = frozen_clip_tiny(classes, template)
    return create_adapter("prompt", built_on, seed, dtype), built_on.text


@torch.no_grad()
def by_transformers(clip, prompts, context, replaced):
    """Class features by transformers' whole text tower over all its positions, the context put in by a hook."""
    ids, mask = clip.tokenize(prompts)
    rows = [row[:length].tolist() for row, length in zip(ids, mask.sum(-1), strict=True)]
    rows = [[row[0], *[5] * len(context), *row[1 + replaced :]] for row in rows]
    padded = torch.tensor([row + [clip.model.config.text_config.eos_token_id] * (POSITIONS - len(row)) for row in rows])

    def put_in(module, inputs, embedded):
        embedded = embedded.clone()
        embedded[:, 1 : 1 + len(context)] = context
        return embedded

    hook = clip.model.text_model.embeddings.token_embedding.register_forward_hook(put_in)
    pooled = clip.model.get_text_features(input_ids=padded).pooler_output
    hook.remove()
    return torch.nn.functional.normalize(pooled, dim=-1)


def test_it_starts_as_the_recipes_own_words_and_so_at_zero_shot():
    adapter, text = prompt()
    assert adapter.context.shape == (4, 128)
    torch.testing.assert_close(adapter.class_features(text), text.features, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("template", "replaced"), [(PICTURE, 4), ("the {} in a picture", 1), (BARE, 0), (BEHIND, 0)])
def test_class_features_are_those_of_the_whole_tower(template, replaced):
    adapter, text = prompt(template)
    context = torch.randn(adapter.context.shape, generator=torch.Generator().manual_seed(3)) * 0.1
    load_parameters(adapter, {"context": context})
    wanted = by_transformers(clip_tiny(), prompts_of(CLASSES, template), context, replaced)
    torch.testing.assert_close(adapter.class_features(text).detach(), wanted, atol=2e-6, rtol=0)
    assert (wanted - text.features).abs().max() > 0.01


@pytest.mark.parametrize("template", [BARE, BEHIND])
def test_without_words_to_replace_it_starts_at_random_in_front(template):
    first, second, other = (prompt(template, seed=seed)[0].context.detach() for seed in (5, 5, 6))
    longest = clip_tiny().tokenize(prompts_of(CLASSES, template))[0].shape[1]
    assert first.shape == (min(PROMPT_VECTORS, POSITIONS - longest), 128)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert 0.018 < first.std() < 0.022


def test_a_single_class_trains_all_its_words():
    adapter, text = prompt(classes=("dog",))
    assert len(adapter.context) == 5
    torch.testing.assert_close(adapter.class_features(text), text.features, atol=1e-6, rtol=0)


def test_prompts_without_room_are_refused():
    clip = clip_tiny()
    with pytest.raises(RecipeError, match="put words before"):
        ContextTower(clip, ["dog " * 30, "house " * 30])


def test_the_gradient_is_that_of_finite_differences():
    adapter, text = prompt(dtype=torch.float64)
    images, labels = torch.randn(9, 128, generator=torch.Generator().manual_seed(1)).double(), torch.arange(9) % 3
    text = text.to(images)
    adapter.loss(images, labels, text).backward()
    direction = torch.randn(adapter.context.shape, generator=torch.Generator().manual_seed(2)).double()
    start, step, losses = adapter.context.detach().clone(), 1e-6, []
    for sign in (1, -1):
        load_parameters(adapter, {"context": start + sign * step * direction})
        losses.append(float(adapter.loss(images, labels, text)))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert slope == pytest.approx(float((adapter.context.grad * direction).sum()), rel=1e-6)


def test_the_tower_is_not_trained_and_not_the_backbones_own():
    clip = clip_tiny()
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    built_on = dataclasses.replace(frozen_clip_tiny(CLASSES), clip=lambda: clip)
    adapter = create_adapter("prompt", built_on, seed=0).to(torch.float64)
    images = torch.randn(6, 128, dtype=torch.float64)
    adapter.loss(images, torch.arange(6) % 3, built_on.text.to(images)).backward()
    assert list(parameters_of(adapter)) == ["context"]
    assert all(torch.equal(before[name], value) for name, value in clip.model.state_dict().items())
    assert all(parameter.grad is None for parameter in clip.model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_answers_the_same():
    adapter, text = prompt()
    here = adapter.class_features(text).detach()
    there = adapter.to("cuda").class_features(text).detach()
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=0)


def saved():
    adapter, text = prompt()
    task = Task("prompt", "no/such-backbone", "0", "fp32", CLASSES, PICTURE, text, "d")
    return task.saved(3, adapter, {})


def test_it_is_restored_where_there_is_no_backbone():
    restored, text = restore_adapter(saved()), frozen_clip_tiny(CLASSES).text
    assert torch.equal(restored.class_features(text), torch.from_numpy(saved().class_features))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_features": None}, "without class features"),
        ({"tensors": {}}, "method's: context"),
        ({"tensors": {**saved().tensors, "extra": saved().text_features}}, "method's: extra"),
    ],
)
def test_a_saved_prompt_of_something_else_is_refused(changes, message):
    with pytest.raises(AdapterFileError, match=message):
        restore_adapter(dataclasses.replace(saved(), **changes))
