"""Schedules of moves, and where samples are kept and drawn."""

import math

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.chains.samples import pick
from dynapilco.inference.chains.schedule import Schedule, make_plan
from tests.inference.harness import gen


def test_rates_are_the_published_formulas():
    a, b, gamma, moves = 0.1**0.55 * 200**0.55, 20.0, 0.55, 200
    polynomial = Schedule("polynomial", gamma=gamma, offset=0.1)
    assert polynomial.rate(37, moves) == pytest.approx(a * (b + 37) ** -gamma, rel=1e-12)
    cyclical, cycle = Schedule("cyclical", cycles=3), math.ceil(200 / 3)
    for k in (1, 50, 67, 68, 150, 200):  # the paper counts from 1
        wanted = 0.5 * (math.cos(math.pi * ((k - 1) % cycle) / cycle) + 1)
        assert cyclical.rate(k - 1, moves) == pytest.approx(wanted, abs=1e-12)
    assert Schedule().rate(199, moves) == 1.0


def test_plan_of_a_constant_schedule():
    plan = make_plan(1000, 0.4, 0.5, 6, Schedule())
    assert (plan.search, plan.moves, plan.burn) == (400, 600, 300)
    kept = [t for t, slot in enumerate(plan.slots) if slot >= 0]
    assert kept == [349, 399, 449, 499, 549, 599]
    assert [plan.slots[t] for t in kept] == list(range(6))


def test_cycles_keep_samples_in_their_last_part_only():
    plan = make_plan(400, 0.0, 0.5, 12, Schedule("cyclical", cycles=4, sampling=0.2))
    kept = [t for t, slot in enumerate(plan.slots) if slot >= 0]
    assert len(kept) == 12 and plan.burn == 80
    assert all(t % 100 >= 80 for t in kept)
    assert [sum(t // 100 == c for t in kept) for c in range(4)] == [3, 3, 3, 3]


def test_decaying_steps_keep_samples_at_equal_simulated_times():
    schedule = Schedule("polynomial", gamma=1.0, offset=0.05)
    plan = make_plan(2000, 0.0, 0.0, 10, schedule)
    times = torch.tensor([schedule.rate(t, 2000) for t in range(2000)]).cumsum(0)
    kept = torch.tensor([t for t, slot in enumerate(plan.slots) if slot >= 0])
    torch.testing.assert_close(times[kept] / times[-1], torch.arange(1, 11) / 10, atol=0.02, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_fits_keep_what_they_can(steps):
    plan = make_plan(steps, 0.4, 0.5, 10, Schedule())
    assert plan.search + plan.moves == steps and plan.moves >= 1 and len(plan.slots) == plan.moves
    stored = [slot for slot in plan.slots if slot >= 0]
    assert stored == list(range(len(stored))) and plan.slots[-1] >= 0


@pytest.mark.parametrize(("chains", "kept", "size"), [(4, 10, 7), (4, 10, 40), (3, 5, 15), (3, 5, 1), (4, 10, 97)])
def test_picks_are_even_over_chains_and_without_repeats(chains, kept, size):
    rows = pick(chains, kept, size, gen())
    assert rows.shape == (size, 2)
    per_chain = torch.bincount(rows[:, 0], minlength=chains)
    assert per_chain.max() - per_chain.min() <= 1
    times = torch.bincount(rows[:, 0] * kept + rows[:, 1], minlength=chains * kept)
    assert times.max() - times.min() <= 1


def test_every_sample_is_as_likely_as_any_other():
    generator = gen()
    counts = sum(
        torch.bincount(r[:, 0] * 5 + r[:, 1], minlength=15) for r in (pick(3, 5, 4, generator) for _ in range(1500))
    )
    expected = 1500 * 4 / 15
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


@pytest.mark.parametrize(
    ("options", "name"),
    [({"kind": "linear"}, "kind"), ({"gamma": 0.5}, "gamma"), ({"gamma": 1.1}, "gamma"), ({"cycles": 0}, "cycles"),
     ({"sampling": 0.0}, "sampling"), ({"offset": -1.0}, "offset")],
)  # fmt: skip
def test_bad_schedules_are_named(options, name):
    with pytest.raises(UserError, match=name):
        Schedule(**options)


def test_no_draws_is_an_error():
    with pytest.raises(UserError, match="draw size 0"):
        pick(2, 3, 0, gen())
