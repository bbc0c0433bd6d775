"""The pretraining of clip-tiny: reproducible to the byte; and the committed weights, as good as they claim."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPModel

import fedclip_plugin
from fedclip_miniature import CLASSES, render_image
from fedclip_miniature.pretraining import pretrain, zero_shot
from fedclip_miniature.pretraining.batches import BatchMaker, cropped, pixels
from fedclip_miniature.pretraining.captions import with_article
from fedclip_miniature.pretraining.corpus import OBJECT_NAMES, draw_corpus, draw_example
from fedclip_miniature.pretraining.tokenizer import learn_merges, tokenized, train_tokenizer
from fedclip_miniature.pretraining.training import rate_factor
from fedclip_plugin.errors import DataError

CLIP_TINY = Path(fedclip_plugin.__file__).parent / "backbone" / "clip_tiny"


@pytest.fixture(scope="module")
def corpus():
    return draw_corpus(60, seed=3, workers=1)


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    """Also where an earlier model is replaced; the card names the figures."""
    torch.manual_seed(1)
    report = pretrain(tmp_path / "a", steps=2, images=64, workers=1, measured_per_class=1)
    torch.manual_seed(2)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.safetensors").write_bytes(b"earlier")
    again = pretrain(tmp_path / "b", steps=2, images=64, workers=2, measured_per_class=1)
    assert report == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")
    assert set(_contents(tmp_path / "a")) >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    card = (tmp_path / "a" / "README.md").read_text()
    assert "--steps 2 --images 64" in card
    for domain, value in report.zero_shot.items():
        assert f"| {domain} | {100 * value:.1f} |" in card


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(DataError, match="holds no model"):
        pretrain(tmp_path / "notes", steps=1, images=52)
    with pytest.raises(DataError, match="at least 1 step"):
        pretrain(tmp_path / "new", steps=0)


def test_a_corpus_image_depends_on_seed_and_index_alone(corpus):
    example = draw_example(17, seed=3)
    assert np.array_equal(example.image, corpus.images[17])
    assert example.caption == corpus.captions[17]
    assert OBJECT_NAMES[corpus.objects[17]] in example.caption
    assert not np.array_equal(draw_example(17, seed=4).image, example.image)


def test_captions_read_well(corpus):
    assert with_article("orange cup") == "an orange cup"
    for text in corpus.captions:
        assert re.fullmatch(r"[a-z ]+", text)
        assert "  " not in text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)


def test_merges_are_learnt_most_frequent_first_and_ties_by_name():
    assert learn_merges(Counter({"aab": 2, "cd": 2, "ce": 3}), 3) == [("c", "e</w>"), ("a", "a"), ("aa", "b</w>")]


def test_the_tokenizer_knows_every_text(corpus):
    tokenizer = train_tokenizer(corpus.captions)
    ids = tokenized(tokenizer, [corpus.captions[0], "Zebra & ÿ 42 日本"])
    assert ids.shape == (2, 24)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == corpus.captions[0]
    assert "zebra" in tokenizer.decode(ids[1], skip_special_tokens=True)


def test_cropping_the_whole_image_changes_nothing(corpus):
    boxes = np.array([[0, 0, 64, 64]], dtype=np.float32)
    cut = cropped(corpus.images[:1], boxes, np.ones(1), np.zeros((1, 2)))
    assert torch.allclose(cut, pixels(corpus.images[:1]), atol=1e-4)


def test_batches_share_captions_and_follow_the_generator(corpus):
    maker = BatchMaker(corpus, train_tokenizer(corpus.captions), np.arange(50))
    first, again = (list(maker.batches(3, 32, np.random.default_rng(5))) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.pixels.shape == (32, 3, 64, 64)
        assert torch.equal(one.pixels, other.pixels)
        assert len(one.texts) == len(one.texts.unique(dim=0)) <= 32
        assert torch.equal(one.texts[one.caption_of], other.texts[other.caption_of])


def test_the_schedule_warms_up_holds_and_decays():
    factors = [rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 60)
    assert factors[100] == factors[590] == 1.0
    assert factors[800] == pytest.approx(0.5)
    assert min(factors[900:]) >= 0.02


def test_the_committed_model_loads_and_its_processor_equals_the_training_pixels():
    model, processor = CLIPModel.from_pretrained(CLIP_TINY), AutoProcessor.from_pretrained(CLIP_TINY)
    assert model.config.projection_dim == 128
    assert model.config.vision_config.image_size == 64
    image = render_image("photo", "dog", 0)
    batch = processor(images=Image.fromarray(image), text=["a picture of a dog"], return_tensors="pt")
    assert torch.allclose(batch["pixel_values"], pixels(image[None]), atol=1e-5)
    assert batch["input_ids"][0, 0] == model.config.text_config.bos_token_id
    assert batch["input_ids"][0, -1] == model.config.text_config.eos_token_id


def test_the_committed_model_is_small_and_says_what_it_is():
    files = _contents(CLIP_TINY)
    assert sum(len(content) for content in files.values()) <= 4 * 2**20
    card = files["README.md"].decode()
    for words in ("python -m fedclip_miniature.pretraining --out", "were seen in", "PACS", "zero-shot"):
        assert words in card


def test_the_committed_model_is_in_its_range_on_the_miniature():
    accuracy = zero_shot(CLIP_TINY, images_per_class=10)
    assert 0.65 <= sum(accuracy.values()) / len(accuracy) <= 0.85
    assert min(accuracy.values()) > 2 / len(CLASSES)
