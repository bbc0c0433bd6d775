"""``fedclip run`` and the number of ranks that mpirun started: who has no work is told before anything starts."""

import pytest

from fedclip_plugin.cli.run import _require_world
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.recipe import find_recipe, load_recipe

SP = ("comm_args.backend=sp",)
TWO = ("device_args.worker_num=2",)


def simulated(*overrides):
    return load_recipe(find_recipe("simulation/clip_tiny_fedclip"), overrides)


@pytest.mark.parametrize(("overrides", "sizes"), [((), range(2, 8)), (TWO, (3,)), (SP, (1,))], ids=["any", "two", "sp"])
def test_as_many_ranks_as_have_work_may_start(overrides, sizes):
    fitting = []
    for size in range(1, 10):
        try:
            _require_world((0, size), simulated(*overrides), "r.yaml")
        except FedClipError:
            continue
        fitting.append(size)
    assert fitting == list(sizes)


@pytest.mark.parametrize(
    ("overrides", "size", "told"),
    [
        ((), 1, "mpirun started 1 rank; a simulation takes at least 2 (a server and 1 worker)"),
        ((), 8, "mpirun started 8 ranks; with client_num_per_round 6 at most 7 have work (a server and 6 workers)"),
        ((), None, "is one rank of an mpirun job; this recipe needs at least 2 (a server and 1 worker)"),
        (TWO, 2, "mpirun started 2 ranks; worker_num is 2, so it takes 3 (a server and 2 workers)"),
        (SP, 3, "comm_args.backend: sp is one process without MPI, but mpirun started 3 ranks"),
        (SP, None, "comm_args.backend: sp is one process without MPI."),
    ],
)
def test_another_number_is_refused_with_the_way_to_start(overrides, size, told):
    here = None if size is None else (0, size)
    with pytest.raises(FedClipError) as caught:
        _require_world(here, simulated(*overrides), "my r.yaml")
    assert told in str(caught.value)
    assert str(caught.value).endswith("Start it with: fedclip launch 'my r.yaml'")
    assert caught.value.exit_code == 2
