"""EdgeClassifier on a delivered bundle: numbers, labels, self-test, refusals, threads."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.bundle import Golden
from fedclip_edge.runtime import BundleError, EdgeClassifier, ExportError, ImageError
from fedclip_edge.runtime import sessions as sessions_module
from fedclip_edge.runtime.edge_classifier import UNCHECKED
from fedclip_edge.runtime.install import install
from fedclip_edge.runtime.self_test import self_test
from tests.support import forge
from tests.support.forged_bundles import ATTACKS, attacked
from tests.support.paths import EDGE

RGB = Image.new("RGB", (8, 8))


@pytest.fixture
def classifier(delivered, public):
    with EdgeClassifier(delivered, keys=[public], provider="cpu") as opened:
        yield opened


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def photo(seed=5, shape=(16, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_logits_are_the_golden_ones(classifier):
    golden = classifier.manifest.golden
    np.testing.assert_allclose(classifier.encode(golden.images), golden.features, atol=1e-4)
    np.testing.assert_allclose(classifier.logits(golden.images), golden.logits, atol=1e-4)
    tested = self_test(classifier.serving)
    assert tested.head <= 1e-4 and tested.chain <= 1e-4 and tested.cosine == pytest.approx(1, abs=1e-5)


def test_a_prediction_is_what_numpy_computes(classifier):
    expected = (forge.features([photo()]) @ forge.head_weights(1).T)[0]
    prediction = classifier.predict(photo(), top=2)
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-4)
    order = np.argsort(-expected)
    assert [label for label, _ in prediction.top] == [forge.LABELS[index] for index in order[:2]]
    assert prediction.top[0] == (prediction.label, prediction.probability)
    assert prediction.probability == pytest.approx(float(softmax(expected).max()), abs=1e-5)


def test_every_form_of_an_image_gives_the_same_answer(classifier, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    stream = io.BytesIO()
    Image.fromarray(photo()).save(stream, "BMP")
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), stream.getvalue(), Image.fromarray(photo()), photo()]
    logits = [classifier.predict(form).logits for form in forms]
    for other in logits[1:]:
        np.testing.assert_array_equal(other, logits[0])


def test_a_batch_gives_what_single_images_give(classifier, monkeypatch):
    monkeypatch.setattr(sessions_module, "CHUNK", 4)
    images = [photo(seed, (8 * (1 + seed % 3), 8, 3)) for seed in range(10)]
    batch = classifier.predict(iter(images))
    assert [answer.label for answer in batch] == [classifier.predict(image).label for image in images]
    for answer, image in zip(batch, images, strict=True):
        np.testing.assert_allclose(answer.logits, classifier.predict(image).logits, atol=1e-5)
    assert classifier.encode(images).shape == (10, forge.WIDTH)


def test_images_are_decoded_one_chunk_ahead_at_most(classifier, monkeypatch):
    monkeypatch.setattr(sessions_module, "CHUNK", 2)
    running = classifier.serving
    encoded, drawn = [], []
    monkeypatch.setattr(
        sessions_module.Serving, "encode", lambda self, pixels: encoded.append(len(drawn)) or np.zeros((len(pixels), 4))
    )
    running.features(drawn.append(n) or photo() for n in range(5))
    assert encoded == [2, 4, 5]


def test_no_images_give_no_answers(classifier):
    assert classifier.predict([]) == []
    assert classifier.encode([]).shape == (0, forge.WIDTH)
    assert classifier.logits([]).shape == (0, len(forge.LABELS))


@pytest.mark.parametrize(("top", "count"), [(1, 1), (3, 3), (99, 3)])
def test_top_is_at_most_the_labels(classifier, top, count):
    prediction = classifier.predict(photo(), top)
    assert len(prediction.top) == count
    values = [value for _, value in prediction.top]
    assert values == sorted(values, reverse=True)


def test_bad_arguments_are_refused(classifier):
    for top in (0, "a", None, 1.5):
        with pytest.raises(ExportError, match=f"top = {top!r}: give a whole number of at least 1"):
            classifier.predict(photo(), top)
    with pytest.raises(ImageError):
        classifier.predict([photo(), b"no image"])


def test_one_image_or_many(classifier):
    image = photo()
    one, (first, second) = classifier.predict(image), classifier.predict([image, image])
    assert one.top == first.top == second.top and len(one.top) == 3
    stacked = np.stack([np.asarray(image)] * 2)
    assert classifier.logits(image).shape == (1, len(classifier.labels))
    np.testing.assert_array_equal(classifier.logits(stacked), classifier.logits([image, image]))
    np.testing.assert_array_equal(classifier.encode(image), classifier.encode([image]))


@pytest.mark.parametrize("nothing", [None, 3])
def test_what_is_no_image_is_named(classifier, nothing):
    for act in (classifier.predict, classifier.encode, classifier.logits):
        with pytest.raises(ExportError, match="where images are taken: give one image, or a list of them"):
            act(nothing)


def test_a_folder_is_no_image(classifier, tmp_path):
    with pytest.raises(ImageError, match=r"it is a folder; give its files, such as .*\*\.jpg"):
        classifier.predict(tmp_path)


def test_limit_of_pixels_is_the_classifiers(delivered):
    with EdgeClassifier(delivered, allow_unsigned=True, provider="cpu", max_pixels=100) as classifier:
        with pytest.raises(ImageError, match="more than the limit"):
            classifier.predict(photo())
        assert classifier.predict(photo(shape=(8, 8, 3))).label in forge.LABELS


def test_what_it_says_about_itself(classifier, delivered, public):
    prediction = classifier.predict(photo())
    assert classifier.labels == forge.LABELS
    assert (classifier.round, classifier.sequence) == (prediction.round, prediction.sequence) == (1, 100)
    assert classifier.key_id == prediction.key_id and len(classifier.key_id) == 16
    assert classifier.provider == "CPUExecutionProvider"
    assert UNCHECKED not in classifier.warnings
    with EdgeClassifier(delivered, allow_unsigned=True, provider="cpu") as without_key:
        assert without_key.key_id is None and UNCHECKED in without_key.warnings
        assert without_key.predict(photo()).key_id is None


def test_external_data_is_found(tmp_path, signer, public):
    folder = forge.bundle(tmp_path / "external", key=signer, external=True)
    with EdgeClassifier(folder, keys=[public], provider="cpu") as classifier:
        np.testing.assert_allclose(
            classifier.logits([photo()])[0],
            (forge.features([photo()]) @ forge.head_weights(1).T)[0],
            atol=1e-4,
        )


def test_opening_twice_gives_two_independent_classifiers(delivered):
    first, second = (EdgeClassifier(delivered, allow_unsigned=True, provider="cpu") for _ in range(2))
    expected = first.predict(photo()).logits
    first.close()
    np.testing.assert_array_equal(second.predict(photo()).logits, expected)
    second.close()


def test_closed_is_closed(delivered):
    with EdgeClassifier(delivered, allow_unsigned=True, provider="cpu") as classifier:
        classifier.close()
        classifier.close()
        for act in (
            lambda: classifier.predict(photo()),
            lambda: classifier.labels,
            lambda: classifier.check(delivered),
        ):
            with pytest.raises(ExportError, match="closed"):
                act()


def test_a_delivered_bundle_is_not_updated_in_place(classifier, tmp_path, signer):
    forge.update(tmp_path / "update", key=signer)
    with pytest.raises(ExportError, match="device folder"):
        classifier.update(tmp_path / "update")
    with pytest.raises(ExportError, match="device folder"):
        classifier.rollback()
    assert classifier.round == 1
    assert classifier.check(tmp_path / "update").bundle.manifest.round == 2


def test_threads_get_the_answers_of_one_thread(classifier):
    images = [photo(seed) for seed in range(8)]
    expected = [classifier.predict(image).logits for image in images]
    with ThreadPoolExecutor(4) as pool:
        for logits, answer in zip(expected * 10, pool.map(classifier.predict, images * 10), strict=True):
            np.testing.assert_array_equal(answer.logits, logits)


# ---------------------------------------------------------------- refusals and self-test


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.victim == "bundle"])
def test_tampered_bundles_are_not_opened(tmp_path, signer, public, name):
    folder = attacked(tmp_path / "attacked", name, signer)
    with pytest.raises(BundleError) as caught:
        EdgeClassifier(folder, keys=[public], provider="cpu")
    assert caught.value.reason == ATTACKS[name].reason


def test_an_update_is_no_bundle_and_a_missing_folder_is_named(tmp_path):
    forge.update(tmp_path / "update")
    with pytest.raises(BundleError) as caught:
        EdgeClassifier(tmp_path / "update", allow_unsigned=True)
    assert caught.value.reason == "incomplete"
    with pytest.raises(BundleError, match="nowhere") as caught:
        EdgeClassifier(tmp_path / "nowhere", allow_unsigned=True)
    assert caught.value.reason == "missing-file"


def moved(by, precision):
    """Return changes of a manifest whose two golden features deviate from their mean in another direction."""
    seen = forge.features(forge.images())
    deviation = seen - seen.mean(axis=0)
    across = deviation[:, [1, 0, 3, 2]] * [1, -1, 1, -1]  # of the same length, and at a right angle
    turned = (seen + by * across).astype(np.float32)
    pictures = [{"height": i.shape[0], "width": i.shape[1], "rgb": forge.base64_of(i, "u1")} for i in forge.images()]
    logits = turned @ forge.head_weights(1).T
    golden = {
        "features": forge.base64_of(turned),
        "logits": forge.base64_of(logits),
        "images": pictures,
    }
    return {"golden": golden, "precision": precision}


@pytest.mark.parametrize(
    ("by", "precision", "accepted"),
    [
        (0.1, "fp32", True), (4, "fp32", False), (4, "fp16", True), (40, "fp16", False),
        (0.2, "int8", True), (0.2, "int8-weights", True), (0.5, "int8", False), (0.5, "int8-weights", False),
    ],
)  # fmt: skip
def test_golden_images_are_judged_by_precision(tmp_path, by, precision, accepted):
    folder = forge.bundle(tmp_path / "bundle", **moved(by, precision))
    if accepted:
        with EdgeClassifier(folder, allow_unsigned=True, provider="cpu") as classifier:
            tested = self_test(classifier.serving)
            assert tested.head <= 1e-4 and tested.cosine == pytest.approx(1 / np.hypot(1, by), abs=1e-3)
        return
    with pytest.raises(BundleError, match=r"self-test failed: .*images?'s? \w+ (are|have)") as caught:
        EdgeClassifier(folder, allow_unsigned=True, provider="cpu")
    assert caught.value.reason == "self-test"


class Pretended:
    """A Serving whose encoder answers `found`, and whose head multiplies features by ten."""

    def __init__(self, golden, found, precision="int8"):
        golden = np.float32(golden)
        images = tuple(photo() for _ in golden)
        manifest = SimpleNamespace(golden=Golden(golden, golden * 10, images), precision=precision)
        self.bundle, self._found = SimpleNamespace(manifest=manifest), np.float32(found)

    def features(self, images):
        return self._found

    def score(self, features):
        return features * 10, features


def test_features_that_are_nearly_parallel_anyway_do_not_pass_for_right():
    golden = 10 + np.random.default_rng(1).normal(size=(4, 32))
    shuffled = Pretended(golden, golden[[1, 2, 3, 0]])
    plain = (golden * golden[[1, 2, 3, 0]]).sum(1) / np.linalg.norm(golden, axis=1) ** 2
    assert plain.min() > 0.95
    with pytest.raises(BundleError, match="mean centred cosine -"):
        self_test(shuffled)
    assert self_test(Pretended(golden, golden)).cosine == pytest.approx(1)


@pytest.mark.parametrize(("second", "accepted"), [(0.85, False), (0.95, True)])
def test_a_first_label_that_was_clear_must_stay(second, accepted):
    pretended = Pretended([[1, second, 0], [0, 0, 1]], [[0.9, second + 0.08, 0], [0, 0, 1]])
    if accepted:
        assert 0.95 < self_test(pretended).cosine < 1
        return
    with pytest.raises(BundleError, match="another first label, though that was clear"):
        self_test(pretended)


def test_an_only_image_and_an_only_label_are_judged_too():
    assert self_test(Pretended([[1.0], [0.5]], [[1.0], [0.5]])).cosine == pytest.approx(1)
    assert self_test(Pretended([[1.0, 0.5]], [[1.0, 0.5]])).cosine == pytest.approx(1)
    for found in ([[-1.0, 0.5]], [[np.nan, 0.5]]):
        with pytest.raises(BundleError):
            self_test(Pretended([[1.0, 0.5]], found))


# ---------------------------------------------------------------- imports


def test_the_runtime_imports_nothing_of_training():
    program = (
        "import sys; import fedclip_edge.runtime, fedclip_edge.bundle, fedclip_edge.cli\n"
        "heavy = {'torch', 'transformers', 'fedml', 'onnx', 'fedclip_plugin', 'onnxruntime', 'PIL', 'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=EDGE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labelled_images_are_scored(classifier, tmp_path):
    images = [photo(seed) for seed in range(6)]
    answered = [classifier.predict(image).label for image in images]
    wrong = next(label for label in classifier.labels if label != answered[0])
    pairs = [(images[0], wrong), *zip(images[1:], answered[1:], strict=True)]
    metrics = classifier.evaluate(pairs)
    assert metrics.accuracy == pytest.approx(5 / 6) and metrics.images.sum() == 6
    for number, (image, label) in enumerate(pairs):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / label / f"{number}.png")
    (tmp_path / answered[1] / "notes.txt").write_text("no image")
    of_folder = classifier.evaluate(tmp_path)
    assert of_folder.accuracy == metrics.accuracy
    np.testing.assert_array_equal(of_folder.recall, metrics.recall)


def test_images_that_cannot_be_scored_are_named(classifier, tmp_path):
    for images, told in (
        ([], "there is no labelled image in what is given"),
        ([(photo(), "moon")], "label 'moon' is none of the bundle's: dog, cat, horse"),
        (tmp_path, "there is no labelled image in "),
        (tmp_path / "no", "is no folder; give one with a folder of images for each label, or pairs"),
    ):
        with pytest.raises(ExportError, match=told):
            classifier.evaluate(images)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"folder": None}, "folder is a NoneType; it is a path"),
        ({"folder": ""}, "folder is empty; give a path"),
        ({"folder": "a\0b"}, "folder is 'a.x00b', which can be no path"),
        ({"keys": "release.pub"}, "keys is a str; give a list of files"),
        ({"keys": [3]}, "a key's file is a int; it is a path"),
        ({"allow_unsigned": "no"}, "allow_unsigned = 'no': give True or False"),
        ({"threads": 1.5}, "threads = 1.5: give a whole number"),
        ({"spinning": "x"}, "spinning = 'x': give True or False"),
        ({"max_pixels": 0}, "max_pixels = 0: give a whole number of at least 1"),
    ],
)
def test_what_opens_no_classifier_is_named(given, told):
    with pytest.raises(ExportError, match=told):
        EdgeClassifier(**{"folder": "nowhere", "provider": "cpu"} | given)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (None, "NoneType where labelled images are taken; give a folder, or pairs"),
        (["a.png"], r"item 0 is no pair of an image and the text of its label; give \(image, label\)"),
        ([("a.png", ["cat"])], "item 0 is no pair"),
        ("", "the folder of images is empty"),
        ("a\0b", "the folder of images is 'a.x00b', which can be no path"),
    ],
)
def test_what_cannot_be_scored_is_named(classifier, images, told):
    with pytest.raises(ExportError, match=told):
        classifier.evaluate(images)


@pytest.mark.parametrize(("device", "source"), [(None, "bundle"), ("device", 3), ("", "bundle"), ("device", "a\0b")])
def test_what_is_no_place_is_not_installed_to(device, source):
    with pytest.raises(ExportError, match=r"it is a path|is empty; give a path|can be no path"):
        install(device, source, allow_unsigned=True, provider="cpu")
