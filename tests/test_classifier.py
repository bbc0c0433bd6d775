"""One way to use a saved adapter: labels, logits, features and scores, whatever its method."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import fedclip_plugin
from fedclip_miniature import CLASSES, ensure_miniature
from fedclip_plugin.backbone import clip as clip_module
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.errors import AdapterFileError, DataError, FedClipError
from fedclip_plugin.methods import METHODS
from tests.support.dicoms import dicom
from tests.support.random_adapters import fresh_adapter, random_adapter, write_adapter
from tests.support.tiffs import tiff

DOMAINS = ("photo", "sketch")


@pytest.fixture(scope="module")
def images(workshop):
    return ensure_miniature(workshop.data, 2, domains=list(DOMAINS))


@pytest.fixture(scope="module")
def photos(images):
    return sorted(images.glob("photo/*/*.png"))[:5]


@pytest.fixture
def loads(monkeypatch):
    """Count how often CLIP is loaded."""
    counted, load = [], clip_module.load_model
    monkeypatch.setattr(clip_module, "load_model", lambda folder: counted.append(folder) or load(folder))
    return counted


@pytest.mark.parametrize("method", METHODS)
def test_clip_is_loaded_once_and_all_ways_agree(tmp_path, images, photos, method, loads):
    adapter = write_adapter(tmp_path / "adapter", method=method)
    loads.clear()
    found = Classifier.load(adapter, device="cpu").evaluate(images)
    assert len(loads) == 1
    assert list(found) == list(DOMAINS)
    assert all(len(part.kept) == 2 * len(CLASSES) and not part.faults for part in found.values())
    again = Classifier.load(adapter, device="cpu")
    logits = again.logits(photos)
    assert len(loads) == 2
    torch.testing.assert_close(found["photo"].adapter.predicted[: len(photos)], logits.argmax(-1))
    confidence = logits.softmax(-1).amax(-1)
    torch.testing.assert_close(found["photo"].adapter.confidence[: len(photos)], confidence, atol=1e-5, rtol=0)
    encoded = again.encode(photos)
    torch.testing.assert_close(encoded.norm(dim=-1), torch.ones(len(photos)))
    head = torch.tensor(again.saved.head_features)
    biases = torch.zeros(len(head)) if again.saved.class_biases is None else torch.tensor(again.saved.class_biases)
    torch.testing.assert_close(again.saved.logit_scale * (encoded @ head.T + biases), logits)
    assert len(loads) == 2


def test_predict_gives_the_best_labels_and_takes_files_and_images(tmp_path, photos):
    classifier = Classifier.load(str(write_adapter(tmp_path / "adapter")), device="cpu")
    opened = Image.open(photos[0])
    answers = classifier.predict([photos[0], str(photos[0]), opened, np.asarray(opened.convert("RGB"))], top=2)
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == 2 and list(answers[0].values()) == sorted(answers[0].values(), reverse=True)
    assert sum(classifier.predict(photos[:1], top=len(CLASSES))[0].values()) == pytest.approx(1, abs=1e-5)


def test_it_compares_with_the_class_features_of_the_file(photos):
    saved = fresh_adapter()
    turned = dataclasses.replace(saved, text_features=np.roll(saved.text_features, 1, axis=0))
    one, other = (Classifier(adapter, device="cpu").logits(photos) for adapter in (saved, turned))
    torch.testing.assert_close(one.roll(1, dims=1), other)


def test_features_need_no_backbone():
    saved = random_adapter("fedclip", width=32)
    assert Classifier(saved, device="cpu").logits_of(torch.ones(2, 32)).shape == (2, 7)


def test_evaluate_keeps_nothing_without_a_cache_and_encodes_once_with_one(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adapter = write_adapter(tmp_path / "adapter")
    first = Classifier.load(adapter, device="cpu").evaluate(images / "photo")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    cached = Classifier.load(adapter, device="cpu").evaluate(images / "photo", cache=tmp_path / "cache")
    monkeypatch.setattr(clip_module, "load_model", lambda folder: pytest.fail("encoded again"))
    again = Classifier.load(adapter, device="cpu").evaluate(images / "photo", cache=tmp_path / "cache")
    scores = [found["photo"].adapter.score for found in (first, cached, again)]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0].count == 2 * len(CLASSES)


def test_what_cannot_be_used_is_named(tmp_path, photos):
    with pytest.raises(AdapterFileError, match=r"holds no adapter\.json"):
        Classifier.load(tmp_path)
    with pytest.raises(AdapterFileError, match="does not fit method"):
        Classifier.load(write_adapter(tmp_path / "short", tensors={}))
    with pytest.raises(AdapterFileError, match="features mean something else"):
        Classifier.load(write_adapter(tmp_path / "other", fingerprint="0" * 64)).predict(photos)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(UnreadableImageError):
        Classifier.load(write_adapter(tmp_path / "adapter")).predict([tmp_path / "bad.png"])


def test_it_is_a_public_name():
    assert fedclip_plugin.Classifier is Classifier


def test_one_image_gives_one_answer_and_many_a_list(tmp_path, photos):
    classifier = Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu")
    alone, (same, other) = classifier.predict(photos[0]), classifier.predict(photos[:2])
    assert same == pytest.approx(alone, abs=1e-6) and list(other.values()) != list(same.values())
    assert classifier.predict(photos[0].read_bytes()) == alone
    pixels = np.asarray(Image.open(photos[0]).convert("RGB"))
    assert classifier.predict(np.stack([pixels, pixels])) == [pytest.approx(alone, abs=1e-6)] * 2
    assert classifier.encode(photos[0]).shape == (1, classifier.saved.feature_dim)
    assert classifier.predict([]) == [] and classifier.logits([]).shape == (0, len(CLASSES))


@pytest.mark.parametrize(
    ("images", "top", "told"),
    [
        (3, 1, "int where images are taken: give one image, or a list of them"),
        (None, 1, "NoneType where images are taken"),
        ("photo.png", 0, "top = 0: give a whole number of at least 1"),
        ("missing.png", 1, "cannot read image missing.png: No such file"),
        (b"no image", 1, "its content is not a JPEG"),
        (np.zeros((4, 4)), 1, r"an array must be uint8 of shape \[height, width, 3\] in RGB order, not float64"),
    ],
)
def test_what_cannot_be_predicted_is_named(tmp_path, images, top, told):
    classifier = Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu")
    with pytest.raises(FedClipError, match=told):
        classifier.predict(images, top)


def test_a_list_of_files_and_a_dataset_are_scored_as_their_folder_is(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier = Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu")
    files = sorted((images / "photo").glob("*/*.png"))
    folder = classifier.evaluate(images / "photo")["photo"].adapter
    listed = classifier.evaluate([(path, path.parent.name) for path in files])["images"].adapter
    opened = [{"image": Image.open(path), "label": CLASSES.index(path.parent.name)} for path in files]
    dataset = classifier.evaluate(opened)["images"].adapter
    metrics = classifier.evaluate(images / "photo")["photo"].metrics
    assert metrics.accuracy == folder.score.accuracy and len(metrics.recall) == len(CLASSES)
    for other in (listed, dataset):
        assert torch.equal(other.predicted, folder.predicted) and torch.equal(other.true, folder.true)
        torch.testing.assert_close(other.confidence, folder.confidence)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (
            {"picture": 1, "label": 0},
            "images, item 0 has the columns picture, label; one of image, img and one of label",
        ),
        (("a.png", 9), "has the label 9, and there are 7 classes, counted from 0"),
        (("a.png", "cat"), "label 'cat' is not one of the classes: dog"),
        (("a.txt", "dog"), "item 0: a.txt is no image file; images end in"),
        ((torch.zeros(3, 8, 8), "dog"), r"is a tensor \[3, 8, 8\]; give the dataset without transforms"),
        ((Image.new("RGB", (8, 8)), None), "has the label None; a label is text, or a whole number with a name"),
        ("a.png", "item 0 is a str; a pair"),
    ],
)
def test_an_item_that_is_no_labelled_image_is_named(tmp_path, monkeypatch, item, told):
    monkeypatch.chdir(tmp_path)
    classifier = Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu")
    with pytest.raises(DataError, match=told):
        classifier.evaluate([item])


def test_a_lora_adapter_is_written_as_peft_reads_it(tmp_path, photos):
    from peft import PeftModel
    from transformers import CLIPModel

    saved, rng = fresh_adapter(method="lora"), np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.1, array.shape).astype(np.float32) for name, array in saved.tensors.items()}
    classifier = Classifier(dataclasses.replace(saved, tensors=tensors), device="cpu")
    classifier.save_peft(tmp_path / "peft")
    model = PeftModel.from_pretrained(
        CLIPModel.from_pretrained(classifier.clip.folder, dtype=torch.float32), str(tmp_path / "peft")
    )
    seen = [classifier.clip.preprocess(Image.open(path).convert("RGB")) for path in photos]
    tower, projection = model.base_model.model.vision_model, model.base_model.model.visual_projection
    with torch.no_grad():
        features = projection(tower(torch.from_numpy(np.stack(seen))).pooler_output)
    expected = classifier.encode(photos)
    torch.testing.assert_close(torch.nn.functional.normalize(features, dim=-1), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(expected, Classifier(saved, device="cpu").encode(photos), atol=1e-2)


def test_an_adapter_that_is_no_lora_has_no_peft_format(tmp_path):
    with pytest.raises(AdapterFileError, match="an adapter of method fedclip is no LoRA"):
        Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu").save_peft(tmp_path / "peft")


def test_samples_are_scaled_as_the_adapter_says(tmp_path):
    samples = np.random.default_rng(0).integers(0, 4096, (30, 40)).astype(np.uint16)
    expected = np.repeat((samples >> 4).astype(np.uint8)[..., None], 3, axis=2)
    for label in CLASSES[:2]:
        (tmp_path / "images" / label).mkdir(parents=True)
    (tmp_path / f"images/{CLASSES[0]}/1.tif").write_bytes(tiff(samples))
    (tmp_path / f"images/{CLASSES[1]}/1.dcm").write_bytes(dicom(samples))
    adapter = write_adapter(tmp_path / "adapter", sample_range=(0.0, 4095.0))
    classifier = Classifier.load(adapter, device="cpu")
    wanted = classifier.logits(expected)
    files = sorted((tmp_path / "images").rglob("1.*"))
    for image in (*files, *(file.read_bytes() for file in files), Image.fromarray(samples)):
        torch.testing.assert_close(classifier.logits(image), wanted)
    plain = Classifier.load(write_adapter(tmp_path / "plain"), device="cpu")
    assert not torch.allclose(plain.logits(files[0]), wanted)
    score = classifier.evaluate(tmp_path / "images")["images"].adapter
    assert (score.predicted == int(wanted.argmax())).all()


def test_a_list_file_is_scored_by_its_own_columns(tmp_path, images):
    classifier = Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu")
    rows = [f"{path},{path.parent.name},north" for path in sorted((images / "photo").glob("*/*.png"))]
    (tmp_path / "scans.csv").write_text("\n".join(["scan,finding,site", *rows]))
    columns = {"file_column": "scan", "label_column": "finding", "silo_column": "site"}
    found = classifier.evaluate(tmp_path / "scans.csv", **columns)["north"]
    assert repr(found) == f"Evaluation(14 images, accuracy {found.metrics.accuracy:.3f}, zero-shot CLIP " + (
        f"{found.zero_shot_metrics.accuracy:.3f})"
    )
    with pytest.raises(DataError, match=r"evaluate\(\) takes no lable_column \(did you mean label_column\?\)"):
        classifier.evaluate(tmp_path / "scans.csv", lable_column="finding")
    with pytest.raises(UnreadableImageError, match=r"it is no image. Give its images, or score it with evaluate\(\)"):
        classifier.predict(tmp_path / "scans.csv")


@pytest.fixture(scope="module")
def plain():
    return Classifier(fresh_adapter(), device="cpu")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((None,), "the adapter is a NoneType; it is a path"),
        (("",), "the adapter is empty; give a path"),
        (("a\0b",), "the adapter is 'a.x00b', which can be no path"),
        (("a" * 300,), "which can be no path \\(File name too long\\)"),
        (("~nobody_of_this_name/x",), "there is no such user"),
        (("adapter", "a\0b"), "backbone is 'a.x00b', which can be no path"),
        (("adapter", ""), "backbone is empty"),
        (("adapter", None, "gpu"), "device = 'gpu' cannot be used here"),
        (("adapter", None, "meta"), "device = 'meta' cannot be used here"),
        (("adapter", None, 1.5), "device = '1.5' cannot be used here"),
        (("adapter", None, "cuda:99"), "device = 'cuda:99' cannot be used here .*; give 'cpu'"),
    ],
)
def test_what_cannot_be_loaded_is_named(tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / "adapter")
    with pytest.raises(FedClipError, match=told):
        Classifier.load(*given)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"batch_size": 0}, "batch_size = 0: give a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size = 2.5: give a whole number"),
        ({"workers": -1}, "workers = -1: give a whole number of at least 0"),
        ({"workers": True}, "workers = True: give a whole number"),
        ({"cache": 3}, "cache is a int; it is a path"),
        ({"encoder": "."}, r"\. is missing; give the encoder\.onnx of a bundle"),
        ({"encoder": 3}, "encoder is a int; it is a path"),
        ({"data_root": 3, "images": "x.csv"}, "data_root is a int; it is a path"),
        ({"images": ""}, "the place of images is empty"),
        ({"images": "a\0b"}, "the place of images is 'a.x00b', which can be no path"),
        ({"images": [("a\0.png", "dog")]}, "images, item 0 names a file with a NUL character"),
    ],
)
def test_what_cannot_be_evaluated_is_named(plain, images, keys, told):
    with pytest.raises(FedClipError, match=told):
        plain.evaluate(**{"images": images / "photo"} | keys)


def test_a_folder_is_loaded_and_not_taken_for_an_adapter():
    with pytest.raises(AdapterFileError, match=r"saved is a str; Classifier.load\(folder\) reads an adapter"):
        Classifier("runs/demo/adapters/best")


def test_a_file_that_is_no_graph_is_no_encoder(plain, images, tmp_path):
    for name in ("encoder.onnx", "preprocess.onnx"):
        (tmp_path / name).write_bytes(b"no graph")
    with pytest.raises(FedClipError, match=f"the graphs in {tmp_path} cannot be used: onnxruntime .* cannot load"):
        plain.evaluate(images / "photo", encoder=tmp_path / "encoder.onnx")


def test_sets_of_one_name_are_not_lost(plain, images):
    (photos,) = plain.image_sets(images / "photo")
    with pytest.raises(DataError, match="two sets of images are called 'photo', and answers go by name"):
        plain.evaluate([photos, photos])
    assert list(plain.evaluate([photos, dataclasses.replace(photos, name="again")])) == ["photo", "again"]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("file", "file cannot be written: File exists; make it writable, or name another place"),
        ("file/peft", "Not a directory"),
        ("", "folder is empty"),
        ("a\0b", "which can be no path"),
        (None, "folder is a NoneType; it is a path"),
    ],
)
def test_a_place_that_takes_no_peft_adapter_is_named(tmp_path, monkeypatch, place, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterFileError, match=told):
        Classifier(fresh_adapter(method="lora"), device="cpu").save_peft(place)
