"""The page in headless Chromium: Python's answers, updates, refusals, and how it looks."""

from fedclip_edge.bundle.keys import load_public_keys
from fedclip_plugin.data.read_image import open_rgb
from tests.devices.support import compare, hosts


def addresses(paths):
    return [hosts.address(path) for path in paths]


def test_raw_golden_images(browse, delivery, python, capsys):
    wanted = [python(image) for image in compare.golden_images(delivery)]
    for plain in (False, True):
        found = browse("predict", images=[], plain=plain)
        largest = max(compare.differences(found["golden"], wanted))
        with capsys.disabled():
            print(
                f"\nchromium, raw, {found['threads']} threads: max |dlogit| {largest:.1e}, "
                f"load {found['load']:.0f} ms, encoder {compare.median(found['golden'], 'encoder'):.1f} ms"
            )
        assert largest <= hosts.TOLERANCE
        assert (found["threads"] == 1) >= plain
        assert found["keyId"] == load_public_keys([delivery.public])[0].id


def test_lossless_files(browse, python, pictures, capsys):
    found = browse("predict", images=addresses(pictures))["files"]
    largest = max(compare.differences(found, compare.expected(python, pictures)))
    with capsys.disabled():
        print(f"\nchromium, {len(pictures)} lossless files: max |dlogit| {largest:.1e}")
    assert largest <= hosts.TOLERANCE


def test_the_answers_are_those_of_python_with_unknown_among_them(browse, said, pictures):
    assert compare.answers(browse("predict", images=addresses(pictures))) == said(pictures)


def test_photos(browse, python, photos, capsys):
    found, wanted = browse("predict", images=addresses(photos))["files"], compare.expected(python, photos)
    largest = sorted(compare.differences(found, wanted))[-3:]
    with capsys.disabled():
        print(
            f"\nchromium, {len(photos)} JPEG files: equal labels {compare.equal_labels(found, wanted):.1%}, "
            f"largest |dlogit| {', '.join(f'{value:.1e}' for value in largest)}"
        )
    assert compare.equal_labels(found, wanted) >= 0.99


def test_update_replay_and_rollback(browse, photos, delivery):
    found = browse("story", image=str(photos[0]))
    steps = found["steps"]
    key = load_public_keys([delivery.public])[0].id
    assert "Signature verified" in steps["first"]["seal"] and key in steps["first"]["facts"]
    assert "Round11" in steps["first"]["facts"] and steps["answered"]["bars"] == 7
    assert "Round 20 serves now" in steps["updated"]["news"] and "Round20" in steps["updated"]["facts"]
    assert steps["updated"]["headline"] != "" and steps["again"]["news"] == "You have the newest round."
    assert "Round20" in steps["reloaded"]["facts"] and steps["replayed"]["news"] == "You have the newest round."
    assert steps["unpublished"]["news"] == "No newer round has been published."
    assert "(rollback)" in steps["rolledBack"]["problem"]
    assert [fault for fault in found["faults"] if "404" not in fault] == []


def test_ways_to_give_a_picture(browse, photos, pictures):
    found = browse("pictures", image=str(photos[0]), picture=addresses(pictures)[0])
    answers = found["answers"]
    assert answers["paste"]["bars"] == answers["drop"]["bars"] == 7
    assert answers["paste"]["headline"] == answers["drop"]["headline"]
    assert answers["bad"]["problem"] == "This is not a JPEG, PNG, WebP or BMP picture." and answers["bad"]["bars"] == 0
    assert answers["good"]["problem"] == "" and answers["good"]["bars"] == 7
    assert answers["focus"] != "" and found["faults"] == []


def test_screenshots_and_legibility(browse, photos):
    photo = max(photos[:40], key=lambda path: open_rgb(path).width)
    measures = browse("screenshots", image=str(photo))
    for view, measured in measures.items():
        assert measured["low"] == [], f"{view}: contrast under 4.5"
        assert measured["overflow"] <= 0 and measured["lowestButton"] >= 44 and measured["unnamed"] == 0, view
        assert (hosts.ARTEFACTS / f"{view}.png").stat().st_size > 10_000
    assert measures["phone-light"]["camera"]
