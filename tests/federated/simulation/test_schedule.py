"""Who trains, whose update is lost, and which worker does what."""

import numpy as np

from fedclip_plugin.federated.simulation.round_plan import balanced
from fedclip_plugin.recipe.client_sampling import lost, sampled, survivors


def test_every_job_has_one_worker_and_the_longest_worker_is_near_the_best():
    steps = {job: int(size) for job, size in enumerate(np.random.default_rng(0).integers(1, 100, 50))}
    for workers in (1, 2, 3, 8):
        shares = balanced(steps, workers)
        assert sorted(job for share in shares for job in share) == list(steps)
        longest = max(sum(steps[job] for job in share) for share in shares)
        assert longest <= 4 / 3 * max(sum(steps.values()) / workers, max(steps.values()))


def test_more_workers_than_jobs_leave_some_idle():
    assert balanced({3: 5, 1: 2}, 4) == [[3], [1], [], []]


def test_clients_are_drawn_by_seed_and_round():
    first = sampled(0, 1, 100, 10)
    assert first == sorted(set(first)) == sampled(0, 1, 100, 10)
    assert first != sampled(0, 2, 100, 10)
    assert first != sampled(1, 1, 100, 10)
    assert sampled(0, 1, 3, 3) == [0, 1, 2]


def test_updates_are_lost_at_the_rate_and_each_client_by_itself():
    everyone = range(10_000)
    gone = lost(0, 5, everyone, 0.3)
    assert abs(len(gone) / 10_000 - 0.3) < 0.02
    assert lost(0, 5, everyone, 0.0) == set()
    assert {client for client in gone if client < 50} == lost(0, 5, range(50), 0.3)
    assert gone != lost(0, 6, everyone, 0.3)


def test_survivors_are_those_that_are_not_lost_up_to_enough():
    for number in range(20):
        clients = sampled(3, number, 50, 10)
        left = 10 - len(lost(3, number, clients, 0.4))
        assert [survivors(3, number, 50, 10, 0.4, enough) for enough in (1, 10)] == [min(left, 1), left]
