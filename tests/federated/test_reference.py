"""Three rounds against the published algorithm, written again from its equations, in float64.

The independent side knows nothing of features or caches: like the reference (microsoft/PersonalizedFL, ``fedclip/``)
it encodes every image and every prompt anew in every batch. Its gate, loss, optimiser and average are its own.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fedclip_miniature import CLASSES, render_image
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.data import split_60_20_20
from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.methods import create_adapter
from fedclip_plugin.runs import RunFolder
from tests.support.workshop import fedml_args, frozen, training_settings

SILOS = {"art_painting": 3, "cartoon": 5, "photo": 4}
"""Images per class: train splits of 12, 21 and 16 images, so that batches of 5 end with 2, 1 and 1."""
BATCH, ROUNDS, EPOCHS = 5, 3, 1
PROMPT = "a picture of a {}"


class Clip:
    """The tiny CLIP in float64, by transformers alone."""

    def __init__(self):
        folder = locate_backbone(BUILT_IN)
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float64).eval().requires_grad_(False)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.scale = float(self.model.logit_scale.exp())

    def pixels(self, images):
        return torch.stack([self.processor(image, return_tensors="pt")["pixel_values"][0].double() for image in images])

    def images(self, pixels):
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    def prompts(self, names):
        words = [PROMPT.format(name.replace("_", " ")) for name in names]
        tokens = self.tokenizer(words, padding=True, return_tensors="pt")
        features = self.model.text_projection(self.model.text_model(**tokens).pooler_output)
        return features / features.norm(dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def clip():
    return Clip()


@pytest.fixture(scope="module")
def silos(clip):
    """Pixels and labels of each silo."""
    drawn = {}
    for domain, count in SILOS.items():
        pairs = [(render_image(domain, name, index), k) for k, name in enumerate(CLASSES) for index in range(count)]
        pixels = clip.pixels([Image.fromarray(image) for image, _ in pairs])
        drawn[domain] = SimpleNamespace(pixels=pixels, labels=torch.tensor([label for _, label in pairs]))
    return drawn


class Reference:
    """One silo's local training as the reference does it, re-encoding as it goes."""

    def __init__(self, clip, silo, train):
        self.clip, self.pixels, self.labels = clip, silo.pixels[train], silo.labels[train]

    def loss(self, weights, pixels, labels):
        w1, b1, w2, b2 = weights
        feature = self.clip.images(pixels)
        energy = torch.tanh(feature @ w1.T + b1) @ w2.T + b2
        gate = energy.exp() / energy.exp().sum(dim=1, keepdim=True)
        adapted = gate * feature
        adapted = adapted / adapted.norm(dim=1, keepdim=True)
        text = self.clip.prompts([CLASSES[label] for label in labels])
        logits = self.clip.scale * adapted @ text.T
        agreed = logits.diagonal()
        by_image, by_text = logits.logsumexp(dim=1) - agreed, logits.logsumexp(dim=0) - agreed
        return (by_image.mean() + by_text.mean()) / 2

    def train(self, start, args, silo, number):
        """Return the weights after a round, and the mean loss of an image."""
        weights = [tensor.clone().requires_grad_() for tensor in start]
        first, second = ([torch.zeros_like(tensor) for tensor in start] for _ in range(2))
        orders = np.random.default_rng([args.random_seed, silo, number, 1])
        step, total, seen = 0, 0.0, 0
        for _ in range(args.epochs):
            order = orders.permutation(len(self.labels))
            for begin in range(0, len(order), args.batch_size):
                batch = order[begin : begin + args.batch_size]
                if len(batch) == 1:
                    continue
                loss = self.loss(weights, self.pixels[batch], self.labels[batch])
                gradients = torch.autograd.grad(loss, weights)
                step, total, seen = step + 1, total + loss.item() * len(batch), seen + len(batch)
                self.adam(weights, gradients, first, second, step, args)
        return [tensor.detach() for tensor in weights], total / seen

    @staticmethod
    def adam(weights, gradients, first, second, step, args, betas=(0.9, 0.98), epsilon=1e-6):
        with torch.no_grad():
            for k, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
                slope = gradient + args.weight_decay * weight
                first[k] = betas[0] * first[k] + (1 - betas[0]) * slope
                second[k] = betas[1] * second[k] + (1 - betas[1]) * slope * slope
                mean, square = first[k] / (1 - betas[0] ** step), second[k] / (1 - betas[1] ** step)
                weight -= args.learning_rate * mean / (square.sqrt() + epsilon)


def as_weights(parameters):
    return [parameters[name].clone() for name in ("hidden.weight", "hidden.bias", "gate.weight", "gate.bias")]


def test_three_rounds_equal_the_reencoding_reference(clip, silos, fresh_fedml, tmp_path):
    args, folder = fedml_args(comm_round=ROUNDS), RunFolder(tmp_path)
    settings = training_settings(batch_size=BATCH, epochs=EPOCHS, comm_round=ROUNDS, random_seed=3)
    text = TextFeatures(clip.prompts(CLASSES), clip.scale)
    task = Task("fedclip", BUILT_IN, "0", "fp32", CLASSES, PROMPT, text, "0")
    adapter = create_adapter("fedclip", frozen(text.features.shape[1]), seed=3, dtype=torch.float64)
    server = FedClipAggregator(adapter, args, settings, task, list(silos), folder)
    trainers, features, references = [], [], []
    for number, (name, silo) in enumerate(silos.items()):
        split = split_60_20_20(len(silo.labels), seed=3)
        data = FeatureSet(clip.images(silo.pixels), silo.labels)
        features.append(SiloFeatures(*(data.subset(part) for part in (split.train, split.validation, split.test))))
        adapter = create_adapter("fedclip", frozen(128), 9, torch.float64)
        trainers.append(FedClipTrainer(adapter, args, settings, task, name, folder))
        trainers[-1].set_id(number)
        references.append(Reference(clip, silo, split.train))
    assert [len(reference.labels) % BATCH for reference in references] == [2, 1, 1]

    start = expected = as_weights(server.get_model_params())
    for args.round_idx in range(ROUNDS):
        updates, twins = [], []
        for number, (trainer, data, reference) in enumerate(zip(trainers, features, references, strict=True)):
            trainer.set_model_params(server.get_model_params())
            trainer.train(data, torch.device("cpu"), args)
            updates.append((len(data.train), trainer.get_model_params()))
            weights, loss = reference.train(expected, settings, number, args.round_idx)
            twins.append(weights)
            assert trainer.train_loss == pytest.approx(loss, rel=1e-9)
        updates, _ = server.on_before_aggregation(updates)
        server.set_model_params(server.on_after_aggregation(server.aggregate(updates)))
        expected = [torch.stack(parts).mean(dim=0) for parts in zip(*twins, strict=True)]
        for ours, theirs in zip(as_weights(server.get_model_params()), expected, strict=True):
            assert (ours - theirs).abs().max() < 1e-9
    moved = max(float((a - b).abs().max()) for a, b in zip(start, expected, strict=True))
    assert moved > 0.03, "training did something, so that the comparison says something"


def test_the_frozen_clip_gives_the_features_of_transformers(clip, silos):
    frozen = FrozenClip(locate_backbone(BUILT_IN), torch.device("cpu"))
    pixels = silos["photo"].pixels[:8]
    assert torch.allclose(frozen.encode_pixels(pixels.float()).double(), clip.images(pixels), atol=1e-4)
    prompts = [PROMPT.format(name.replace("_", " ")) for name in CLASSES]
    assert torch.allclose(frozen.encode_prompts(prompts).double(), clip.prompts(CLASSES), atol=1e-5)
    assert frozen.logit_scale == pytest.approx(clip.scale, rel=1e-6)
    image = render_image("photo", "dog", 0)
    own = frozen.preprocess(Image.fromarray(image))
    assert np.allclose(own, clip.pixels([Image.fromarray(image)])[0].numpy(), atol=1e-6)


def test_equal_labels_in_a_batch_give_the_multi_positive_gradient():
    """Images of one class share a text vector: the loss differs from the multi-positive one by a constant only."""
    from fedclip_plugin.methods.losses import contrastive_loss

    generator = torch.Generator().manual_seed(1)
    images = torch.nn.functional.normalize(torch.randn(6, 16, generator=generator, dtype=torch.float64), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(3, 16, generator=generator, dtype=torch.float64), dim=-1)
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    images.requires_grad_()
    (paired,) = torch.autograd.grad(contrastive_loss(images, text, labels, 20.0), images)
    logits = 20.0 * images @ text[labels].T
    same = (labels[:, None] == labels[None, :]).double()
    targets = same / same.sum(dim=1, keepdim=True)
    rows, columns = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    multi = -((targets * rows).sum() + (targets * columns).sum()) / (2 * len(labels))
    (shared,) = torch.autograd.grad(multi, images)
    assert (paired - shared).abs().max() < 1e-12
    assert math.isclose(float(paired.abs().max()), float(shared.abs().max()), rel_tol=1e-9)
