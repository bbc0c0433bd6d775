"""What the tests of exports share: an encoder is traced once for as many bundles as are made of it."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def traced(one_trace_an_encoder):
    """Trace once in every test of exports."""
