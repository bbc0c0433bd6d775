"""``stats``: counters of answers, whole after a crash, without a word of any image."""

import json
import re
import threading

import numpy as np
import pytest

from fedclip_edge.device import answer_statistics
from fedclip_edge.device.answer_statistics import AnswerCounter, Statistics, read_statistics
from fedclip_edge.errors import ExportError
from fedclip_edge.runtime import EdgeClassifier
from tests.support import forge


def counted(*answers):
    found = Statistics(1000)
    for answer in answers:
        found.add(*answer)
    return found


def test_answers_are_counted_by_label_and_confidence():
    known = [("dog", True, 0.05), ("dog", True, 0.9501), ("cat", True, 0.0)]
    found = counted(*known, ("cat", False, 0.3), ("dog", False, 1.0))
    assert found.to_json() == {
        "since": 1000,
        "images": 5,
        "labels": {"cat": 1, "dog": 2},
        "unknown": {"cat": 1, "dog": 1},
        "confidence": [2, 0, 0, 0, 0, 1, *[0] * 13, 2],
        "confidence_sum": 2.3001,
    }
    assert Statistics.of(json.loads(json.dumps(found.to_json()))).to_json() == found.to_json()


def test_prometheus_reads_it():
    lines = counted(('a "b"\\c\n', True, 0.5), ("cat", False, 0.3)).prometheus().splitlines()
    assert r'fedclip_answers_total{label="a \"b\"\\c\n"} 1' in lines
    assert 'fedclip_unknown_total{guess="cat"} 1' in lines
    assert 'fedclip_confidence_bucket{le="0.3"} 1' in lines and 'fedclip_confidence_bucket{le="+Inf"} 2' in lines
    assert "fedclip_confidence_sum 0.8" in lines and "fedclip_confidence_count 2" in lines
    form = re.compile(r'# (HELP|TYPE) fedclip_\w+ .+|fedclip_\w+(\{\w+="(\\.|[^"\\])*"\})? [0-9.e+-]+')
    assert all(form.fullmatch(line) for line in lines)
    buckets = [int(line.split()[-1]) for line in lines if "bucket" in line]
    assert buckets == sorted(buckets)


def test_a_device_counts_what_it_answers_and_keeps_nothing_else(device_folder, pictures):
    assert read_statistics(device_folder).images == 0
    for images in (pictures, pictures[0]):
        with EdgeClassifier(device_folder, provider="cpu", count=True) as classifier:
            found = classifier.predict(images)
    kept = read_statistics(device_folder)
    assert kept.images == 3 and sum(kept.labels.values()) == 3 and not kept.unknown
    assert kept.labels[found.label] >= 2
    text = (device_folder / "statistics.json").read_text()
    assert set(json.loads(text)) == {"since", "images", "labels", "unknown", "confidence", "confidence_sum"}
    assert not [path.name for path in pictures if path.name in text]


def test_nothing_is_counted_unless_it_is_asked_for(classifier, device_folder, pictures, delivered, public):
    classifier.predict(pictures)
    classifier.close()
    assert not (device_folder / "statistics.json").exists()
    with pytest.raises(ExportError, match="install it to a device folder"):
        EdgeClassifier(delivered, keys=[public], provider="cpu", count=True)
    with pytest.raises(ExportError, match="count = 'yes': give True or False"):
        EdgeClassifier(device_folder, provider="cpu", count="yes")


def test_counters_go_to_the_disk_now_and_then(device_folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(answer_statistics.time, "monotonic", lambda: now[0])
    counter = AnswerCounter(device_folder)
    counter.add("dog", True, 0.5)
    assert read_statistics(device_folder).images == 0
    now[0] = answer_statistics.WRITE_EVERY
    counter.add("dog", True, 0.5)
    assert read_statistics(device_folder).images == 2
    counter.add("dog", True, 0.5)
    counter.close()
    counter.close()
    assert read_statistics(device_folder).images == 3


def test_several_threads_and_programs_lose_nothing(device_folder):
    counters = [AnswerCounter(device_folder) for _ in range(3)]

    def count(counter):
        for number in range(100):
            counter.add("dog", number % 4 > 0, number / 100)
        counter.close()

    threads = [threading.Thread(target=count, args=(counter,)) for counter in counters for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_statistics(device_folder)
    assert (found.images, found.labels["dog"], found.unknown["dog"]) == (600, 450, 150)


def test_a_disk_that_is_full_stops_no_answer_and_is_said(device_folder, pictures, monkeypatch):
    real, full = answer_statistics.write_file, [True]

    def write(path, content):
        if full[0]:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(answer_statistics, "write_file", write)
    monkeypatch.setattr(answer_statistics, "WRITE_EVERY", 0.0)
    with EdgeClassifier(device_folder, provider="cpu", count=True) as classifier:
        assert classifier.predict(pictures[0]).label in forge.LABELS
        assert "answers are not counted on disk: No space left on device" in classifier.warnings
        full[0] = False
        classifier.predict(pictures[1])
        assert not any("counted" in text for text in classifier.warnings)
    assert read_statistics(device_folder).images == 2


@pytest.mark.parametrize("text", ["{", "{}", '{"since": 1}'])
def test_a_damaged_file_is_refused_and_begun_anew(edge, device_folder, text):
    (device_folder / "statistics.json").write_text(text)
    code, _, err = edge("stats", device_folder)
    assert code == 2 and "statistics.json cannot be read" in err and "'fedclip-edge stats --reset' begins anew" in err
    assert edge("stats", device_folder, "--reset")[:2][0] == 0
    assert not (device_folder / "statistics.json").exists()


SPOILT = [{"images": 2}, {"confidence": [1]}, {"labels": {"dog": -1}}, {"confidence_sum": None}]


@pytest.mark.parametrize("change", SPOILT)
def test_counters_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError, match="counters that cannot be"):
        Statistics.of(counted(("dog", True, 0.5)).to_json() | change)


def test_the_command_shows_what_was_counted(edge, device_folder, pictures):
    assert "nothing was counted: predict with --count" in edge("stats", device_folder)[1]
    assert edge("predict", device_folder, *pictures, "--count", "--provider", "cpu")[0] == 0
    out = edge("stats", device_folder)[1]
    assert out.startswith("2 images since 20") and "mean confidence 0." in out
    assert json.loads(edge("stats", device_folder, "--json")[1])["images"] == 2
    assert "fedclip_confidence_count 2\n" in edge("stats", device_folder, "--prometheus")[1]
    assert "is no device folder" in edge("stats", pictures[0].parent)[2]


def test_counting_costs_microseconds(device_folder):
    counter, took = AnswerCounter(device_folder), []
    for _ in range(5):
        began = answer_statistics.time.perf_counter()
        for number in range(1000):
            counter.add("dog", True, number / 1000)
        took.append(answer_statistics.time.perf_counter() - began)
    assert np.min(took) < 0.05, "50 microseconds an answer"
