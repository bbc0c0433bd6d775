"""What int8 both ways costs and saves in a federation on the miniature."""

import pytest


@pytest.fixture(scope="module")
def exact(own_job):
    return own_job("fedclip")


@pytest.fixture(scope="module")
def int8(workshop, fedml_of_the_session):
    return workshop.run_here(workshop.recipe("int8", fedclip_args__codec="int8"))


def test_int8_sends_a_quarter_of_the_bytes_after_the_first_adapter(exact, int8):
    for way, rounds in (("bytes_up", int8.lines[1:]), ("bytes_down", int8.lines[2:])):
        for line in rounds:
            assert 3.5 < getattr(exact.lines[line.round], way) / getattr(line, way) < 4
    assert int8.lines[1].bytes_down == pytest.approx(exact.lines[1].bytes_down, rel=0.01)


def test_int8_costs_next_to_no_accuracy(exact, int8):
    for line, lossy in zip(exact.lines, int8.lines, strict=True):
        for part in ("validation", "test", "target"):
            assert getattr(lossy, part) == pytest.approx(getattr(line, part), abs=0.02)
