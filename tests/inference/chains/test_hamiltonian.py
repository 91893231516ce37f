"""Leapfrog, accept or reject, and adaptation, on densities that are known."""

import math
from itertools import pairwise

import pytest
import torch

from dynapilco.inference.chains import adaptation, hamiltonian
from dynapilco.inference.chains.adaptation import adapt, close_window, extend_window, start_step_size, start_window
from dynapilco.inference.chains.hamiltonian import Place, first_step_size, kinetic, leapfrog, place_at, propose
from dynapilco.inference.chains.schedule import Moment, Schedule, make_plan
from tests.inference.harness import gen, rand

EULER = 0.5772156649015329


def autograd(energy):
    def potential(position):
        leaf = position.detach().requires_grad_(True)
        with torch.enable_grad():
            values = energy(leaf)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

    return potential


def quartic(q):
    """Coupled and anharmonic, so that no order of the integrator is hidden by symmetry."""
    return (q.square().square() / 4).sum(-1) + 0.5 * (q[:, 0] - q[:, 1]).square() + (0.3 * q[:, 2]).cos()


def log_exponential(q):
    """Log of an exponential variable in each coordinate: mean -0.577 (Euler), variance pi^2 / 6, skewed."""
    return (q.exp() - q).sum(-1)


def funnel(q):
    """Neal's funnel with v ~ N(0, 1): x_i | v ~ N(0, e^v)."""
    v, x = q[:, :1], q[:, 1:]
    return 0.5 * (v.square().sum(-1) + (x.square() * (-v).exp()).sum(-1) + x.shape[-1] * v[:, 0])


def errors_of_paths(sizes, path=1.0):
    q, p = rand(20, 4, seed=1), rand(20, 4, seed=2)
    mass = 1 / (rand(20, 4, seed=3).abs() + 0.5)
    potential = autograd(quartic)
    place = place_at(potential, q)
    rises = []
    for eps in sizes:
        end, last = leapfrog(potential, place, p, torch.full((20, 1), eps).double(), mass, round(path / eps))
        rises.append((end.potential + kinetic(last, mass) - place.potential - kinetic(p, mass)).abs().mean())
    return [float(a / b) for a, b in pairwise(rises)]


def check_order():
    assert errors_of_paths([0.02, 0.01, 0.005]) == pytest.approx([4.0, 4.0], abs=0.3)


def check_reversible():
    q, p, mass = rand(20, 4, seed=1), rand(20, 4, seed=2), 1 / (rand(20, 4, seed=3).abs() + 0.5)
    potential, step = autograd(quartic), torch.full((20, 1), 0.1).double()
    end, last = leapfrog(potential, place_at(potential, q), p, step, mass, 30)
    back, first = leapfrog(potential, end, -last, step, mass, 30)
    torch.testing.assert_close(back.position, q, atol=1e-10, rtol=0)
    torch.testing.assert_close(-first, p, atol=1e-10, rtol=0)


def test_energy_error_falls_by_four_when_the_step_is_halved():
    check_order()


def test_the_path_is_reversible():
    check_reversible()


def full_kick_at_the_end(potential, place, momentum, step, inverse_mass, length):
    """The mistake of a known library: a whole momentum step more at the end."""
    end, last = hamiltonian.leapfrog(potential, place, momentum, step, inverse_mass, length)
    return end, last - step * end.gradient


@pytest.mark.parametrize("check", [check_order, check_reversible])
def test_a_full_kick_at_the_end_is_noticed(check, monkeypatch):
    monkeypatch.setitem(globals(), "leapfrog", full_kick_at_the_end)
    with pytest.raises(AssertionError):
        check()


def test_a_gradient_a_leapfrog():
    calls = []

    def potential(q):
        calls.append(1)
        return 0.5 * q.square().sum(-1), q

    place = place_at(potential, rand(3, 2))
    calls.clear()
    propose(potential, place, torch.full((3, 1), 0.1).double(), torch.ones(3, 2).double(), 7, gen())
    assert len(calls) == 7


def test_one_proposal_is_the_formula_written_out():
    q, mass, step = rand(5, 3, seed=1), rand(5, 3, seed=2).abs() + 0.5, rand(5, 1, seed=3).abs() * 0.3
    potential = autograd(log_exponential)
    done = propose(potential, place_at(potential, q), step, 1 / mass, 2, gen(7))
    g = gen(7)
    p = torch.randn(5, 3, generator=g, dtype=torch.float64) * mass.sqrt()
    a, b = q, p
    for _ in range(2):
        b = b - step / 2 * (a.exp() - 1)
        a = a + step * b / mass
        b = b - step / 2 * (a.exp() - 1)
    rise = log_exponential(a) + 0.5 * (b**2 / mass).sum(-1) - log_exponential(q) - 0.5 * (p**2 / mass).sum(-1)
    accept = torch.rand(5, generator=g, dtype=torch.float64) < (-rise).exp()
    torch.testing.assert_close(done.place.position, torch.where(accept[:, None], a, q), atol=1e-12, rtol=0)
    torch.testing.assert_close(done.probability, (-rise).exp().clamp(max=1), atol=1e-12, rtol=0)


def test_a_chain_that_diverges_stays_and_leaves_the_others_alone():
    q = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    potential = autograd(lambda q: (q.square() + q.square().square()).sum(-1))
    place = place_at(potential, q)
    step, ones = torch.tensor([[0.01], [50.0]], dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    done = propose(potential, place, step, ones, 20, gen())
    assert done.divergent.tolist() == [False, True]
    assert done.accepted.tolist() == [True, False]
    assert done.probability[1] == 0
    assert torch.equal(done.place.position[1], q[1]) and not torch.equal(done.place.position[0], q[0])
    assert torch.isfinite(done.place.gradient).all()


def sample(energy, chains, dim, burn, moves, length, seed, every=1):
    """Adapted chains: (chains, moves // every, dim)."""
    potential, generator = autograd(energy), gen(seed)
    place = place_at(potential, 0.1 * rand(chains, dim, seed=seed + 1000))
    state = {"inverse_mass": torch.ones(chains, dim, dtype=torch.float64)}
    start_window(state, place.position)
    step = torch.full((chains, 1), 0.1, dtype=torch.float64)
    start_step_size(state, first_step_size(potential, place, step, state["inverse_mass"], generator))
    plan, kept = make_plan(burn + moves, 0.0, burn / (burn + moves), 1, Schedule()), []
    for number in range(burn + moves):
        when = Moment(number, plan)
        size = state["log_step" if when.burning else "log_step_mean"].exp()
        steps = int(torch.randint(max(1, length // 2), length + 1, (), generator=generator))
        move = propose(potential, place, size, state["inverse_mass"], steps, generator)
        place = move.place
        if when.burning:
            adapt(state, potential, move, when, 0.8, True, generator)
        elif (number - burn) % every == 0:
            kept.append(place.position)
    return torch.stack(kept, 1)


def assert_means(values, wanted, limit=5.0):
    """``values`` (chains, T): chains are independent, so their means give the Monte Carlo standard error."""
    means = values.mean(1)
    assert abs(float(means.mean()) - wanted) < limit * float(means.std()) / means.shape[0] ** 0.5


def test_a_skewed_density_is_sampled():
    x = sample(log_exponential, 64, 2, 60, 60, 8, seed=0)
    assert_means(x.mean(-1), -EULER)
    assert_means((x + EULER).square().mean(-1), math.pi**2 / 6)


def test_momenta_of_a_wrong_scale_are_noticed(monkeypatch):
    """Momenta larger by sqrt(2) heat the chain to temperature 2."""
    normal = hamiltonian.normal_like
    monkeypatch.setattr(hamiltonian, "normal_like", lambda position, g: 2**0.5 * normal(position, g))
    with pytest.raises(AssertionError):
        test_a_skewed_density_is_sampled()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_skewed_density_over_seeds(seed):
    x = sample(log_exponential, 64, 2, 100, 200, 8, seed=seed)
    assert_means(x.mean(-1), -EULER)
    assert_means((x + EULER).square().mean(-1), math.pi**2 / 6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_funnel_over_seeds(seed):
    """v ~ N(0, 1) and E[x^2] = e^(1/2), through a neck that calls for small steps."""
    q = sample(funnel, 128, 3, 200, 600, 20, seed=seed)
    assert_means(q[..., 0], 0.0)
    assert_means(q[..., 0].square(), 1.0)
    assert_means(q[..., 1:].square().mean(-1), math.exp(0.5))


def test_a_first_step_size_is_found_from_any_scale():
    """The limit of stability is 0.02; momenta differ from chain to chain."""
    sd = torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64)
    potential = autograd(lambda q: 0.5 * (q / sd).square().sum(-1))
    place, mass = place_at(potential, rand(32, 3, seed=1) * sd), torch.ones(32, 3, dtype=torch.float64)
    for start in (1e-6, 1e3):
        step = first_step_size(potential, place, torch.full((32, 1), start).double(), mass, gen())
        assert step.min() > 0.002 and step.max() < 0.1


def test_step_size_reaches_the_acceptance_aimed_at():
    potential, generator = autograd(lambda q: 0.5 * q.square().sum(-1)), gen(0)
    place, mass = place_at(potential, rand(64, 100, seed=1)), torch.ones(64, 100, dtype=torch.float64)
    state, rates = {}, []
    start_step_size(state, torch.full((64, 1), 0.1, dtype=torch.float64))
    for t in range(200):
        size = state["log_step" if t < 150 else "log_step_mean"].exp()
        move = propose(potential, place, size, mass, 3, generator)
        place = move.place
        if t < 150:
            adaptation.adapt_step_size(state, move.probability.unsqueeze(-1), 0.8)
        else:
            rates.append(move.probability)
    assert float(torch.stack(rates).mean()) == pytest.approx(0.8, abs=0.05)


def test_dual_averaging_is_the_formula_written_out():
    state = {}
    start_step_size(state, torch.tensor([[0.2]], dtype=torch.float64))
    error, mean = 0.0, math.log(0.2)
    for t, a in enumerate([0.3, 0.9, 1.0, 0.0], start=1):
        adaptation.adapt_step_size(state, torch.tensor([[a]], dtype=torch.float64), 0.8)
        error = (1 - 1 / (t + 10)) * error + (0.8 - a) / (t + 10)
        log_step = math.log(10 * 0.2) - t**0.5 / 0.05 * error
        mean = t**-0.75 * log_step + (1 - t**-0.75) * mean
        assert float(state["log_step"]) == pytest.approx(log_step, abs=1e-12)
        assert float(state["log_step_mean"]) == pytest.approx(mean, abs=1e-12)


def test_mass_of_independent_coordinates_is_their_precision():
    """Also where the window saw a part of the spread only: positions and gradients shrink together."""
    sd = torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)
    state = {"inverse_mass": torch.ones(2, 3, dtype=torch.float64)}
    start_window(state, state["inverse_mass"])
    for t in range(12):
        q = 0.2 * rand(2, 3, seed=t) * sd
        q[1, 1] = 0.5  # did not move
        extend_window(state, q, q / sd**2)
    close_window(state)
    wanted = (sd**2).expand(2, 3).clone()
    wanted[1, 1] = 1.0
    torch.testing.assert_close(state["inverse_mass"], wanted, rtol=1e-8, atol=0)
    assert float(state["window_count"]) == 0


def test_windows_double_and_leave_room_for_the_step_size():
    start, ends = adaptation.window_ends(100)
    assert start == 15 and ends[-1] == 80
    lengths = [b - a for a, b in zip((start, *ends), ends, strict=False)]
    assert lengths[1] / lengths[0] == pytest.approx(2, abs=0.2) and lengths[2] / lengths[1] == pytest.approx(2, abs=0.2)
    assert adaptation.window_ends(10) == (10, ())


def test_chains_do_not_touch_one_another(monkeypatch):
    """A batch of chains is the same as each alone, when each is given its own random numbers."""
    potential = autograd(quartic)
    q, p = rand(3, 4, seed=1), rand(3, 4, seed=2)
    step, mass = torch.tensor([[0.1], [0.2], [0.3]]).double(), rand(3, 4, seed=3).abs() + 0.5
    whole = leapfrog(potential, place_at(potential, q), p, step, mass, 5)
    for s in range(3):
        row = slice(s, s + 1)
        alone = leapfrog(potential, place_at(potential, q[row]), p[row], step[row], mass[row], 5)
        torch.testing.assert_close(whole[0].position[row], alone[0].position, atol=1e-12, rtol=0)
        torch.testing.assert_close(whole[1][row], alone[1], atol=1e-12, rtol=0)


def test_a_place_does_not_alias_a_buffer():
    buffer = torch.empty(2, 2, dtype=torch.float64)

    def potential(q):
        return 0.5 * q.square().sum(-1), buffer.copy_(q)

    place = place_at(potential, rand(2, 2))
    before = place.gradient.clone()
    potential(rand(2, 2, seed=9))
    assert torch.equal(place.gradient, before) and isinstance(place, Place)
