"""Planners on a known system: a cart on rails with a reward at a place away from the start."""

from dataclasses import replace

import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.dynamics import DynamicsDraw, Geometry, make_stepping
from dynapilco.inference import DenseDraw, DenseStack, Gaussian
from dynapilco.planning import PLANNERS, Planner, PlanningConfig
from dynapilco.planning.evaluation import plan_returns, scores
from dynapilco.planning.noise import coloured
from dynapilco.tasks import ActionCodec, Task

DT, GOAL = 0.2, 0.5
GEOMETRY = Geometry(2, 1, (), ((0, 1),), DT)
SMALL = PlanningConfig(horizon=8, population=60, iterations=4, draws=3, particles=2)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def reward(state, action, next_state, xp):
    return xp.exp(-((next_state[..., 0] - GOAL) ** 2) / 0.1 - 0.1 * next_state[..., 1] ** 2)


def make_task(reward=reward, margin=None, geometry=GEOMETRY, space=None):
    codec = ActionCodec.of(space or spaces.Box(-2, 2, (1,)))
    empty = [("",) * n for n in (2, 2, geometry.actions, geometry.actions)]
    return Task(geometry, codec, 20, reward, None, torch.zeros(2), torch.zeros(2), *empty, margin=margin)


def make_draw(geometry=GEOMETRY, force=None, noise=0.01, spread=0.1):
    """p' = p + dt v + dt^2/2 u, v' = v + dt u; the functions differ in the strength of u."""
    force = torch.ones(1, 1) if force is None else force
    weights = torch.zeros(3, 2 + len(force), 2)
    weights[:, 1, 0] = DT
    strength = torch.tensor([1 - spread, 1.0, 1 + spread])[:, None]
    weights[:, 2:, 0], weights[:, 2:, 1] = DT**2 / 2 * strength * force[:, 0], DT * strength * force[:, 0]
    stack = DenseStack((weights,), (torch.zeros(3, 2),), ())
    draw = DenseDraw(3, torch.full((3, 2), noise), Gaussian(), stack)
    return DynamicsDraw(draw, geometry, make_stepping(geometry, "delta"), None)


def drive(planner, task, steps=20):
    """Run the planner in the middle function without noise; returns the rewards and the last state."""
    truth, x, plans, earned = make_draw(task.geometry, noise=0.0), torch.zeros(2), planner.fresh(), []
    if task.geometry.choices:
        truth = make_draw(task.geometry, FORCES, 0.0)
    for step in range(steps):
        u, plans = planner.act(x, plans, steps - step)
        y = truth.step(x.expand(1, 3, 1, -1), u.expand(1, 3, 1, -1))[0, 1, 0]
        earned.append(float(task.reward(x, u, y, torch)))
        x = y
    return earned, x, plans


FORCES = torch.tensor([[-2.0], [0.0], [2.0]])


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_reaches_the_goal_and_stays(name):
    draw, task = make_draw(), make_task()
    config = replace(SMALL, population=300) if name == "random_shooting" else SMALL
    earned, x, plans = drive(Planner(name, task, lambda _: draw, config, gen()), task)
    assert sum(earned[-8:]) > 6.5
    assert abs(float(x[0]) - GOAL) < 0.2
    assert plans.bad == 0
    assert plans.mean.shape == (8, 1)


@pytest.mark.parametrize("name", ["cem", "icem", "random_shooting"])
def test_choices_are_planned_too(name):
    geometry = replace(GEOMETRY, actions=3, choices=(3,))
    draw, task = make_draw(geometry, FORCES), make_task(geometry=geometry, space=spaces.Discrete(3))
    planner = Planner(name, task, lambda _: draw, replace(SMALL, population=150), gen())
    earned, _, _ = drive(planner, task)
    assert sum(earned[-8:]) > 5.5
    u, _ = planner.act(torch.zeros(2), planner.fresh())
    assert sorted(u.tolist()) == [0, 0, 1]


def test_one_generator_gives_the_same_actions():
    draw, task = make_draw(), make_task()
    runs = [drive(Planner("icem", task, lambda _: draw, SMALL, gen(s)), task, 6)[0] for s in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("propagation", ["ts1", "expectation"])
def test_propagations_agree_where_functions_and_noise_do(propagation):
    draw, task = make_draw(noise=0.0, spread=0.0), make_task()
    plans = torch.rand(7, 8, 1, generator=gen()) * 4 - 2
    one = plan_returns(task, draw, torch.zeros(2), plans, SMALL, gen(1))
    other = plan_returns(task, draw, torch.zeros(2), plans, replace(SMALL, propagation=propagation), gen(1))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert one.shape == (7, 3, 2)


def test_returns_by_hand():
    """Under tsinf a particle keeps its function; the plan is applied as it is."""
    draw, task = make_draw(noise=0.0), make_task()
    plans = torch.tensor([[[1.0], [-0.5], [2.0]]])
    found = plan_returns(task, draw, torch.tensor([0.1, 0.2]), plans, replace(SMALL, horizon=3), gen())
    for s, strength in enumerate((0.9, 1.0, 1.1)):
        p, v, total = 0.1, 0.2, 0.0
        for u in (1.0, -0.5, 2.0):
            p, v = p + DT * v + DT**2 / 2 * strength * u, v + DT * strength * u
            total += float(reward(None, None, torch.tensor([p, v]), torch))
        assert found[0, s, 0] == pytest.approx(total, rel=1e-4)


def test_ts1_mixes_the_functions():
    draw, task = make_draw(noise=0.0, spread=0.9), make_task(lambda x, u, y, xp: y[..., 0])
    plans = torch.full((1, 8, 1), 1.0)
    kept = plan_returns(task, draw, torch.zeros(2), plans, replace(SMALL, particles=50), gen())
    mixed = plan_returns(task, draw, torch.zeros(2), plans, replace(SMALL, particles=50, propagation="ts1"), gen())
    assert kept.flatten().std() > 1.5 * mixed.flatten().std()


def test_objectives():
    returns = torch.tensor([[[0.0, 4.0], [2.0, 2.0]], [[2.0, 2.0], [2.0, 1.9]], [[torch.nan, 9.0], [9.0, 9.0]]])
    by = {
        name: scores(returns, replace(SMALL, objective=name, risk_share=0.25))
        for name in ("mean", "cvar", "mean_minus_std", "optimistic")
    }
    assert by["mean"].tolist() == pytest.approx([2.0, 1.975, -torch.inf])
    assert by["cvar"].tolist() == pytest.approx([0.0, 1.9, -torch.inf])
    assert by["mean_minus_std"].argmax() == 1
    assert by["optimistic"].tolist() == pytest.approx([2.0, 2.0, -torch.inf], abs=0.03)


def test_plans_that_are_not_numbers_are_counted_and_never_chosen():
    def broken(state, action, next_state, xp):
        return xp.where(action[..., 0] > 0, xp.nan * action[..., 0], next_state[..., 0])

    draw, task = make_draw(), make_task(broken)
    planner = Planner("cem", task, lambda _: draw, SMALL, gen())
    u, plans = planner.act(torch.zeros(2), planner.fresh())
    assert float(u) <= 0
    assert plans.bad > 0
    assert torch.isfinite(plans.mean).all()


def test_an_end_is_avoided():
    task = make_task(lambda x, u, y, xp: 1 + y[..., 0], lambda x, u, y, xp: 4 * (0.3 - y[..., 0]))
    draw = make_draw()
    planner, x = Planner("cem", task, lambda _: draw, SMALL, gen()), torch.zeros(2)
    plans, places = planner.fresh(), []
    for _ in range(20):
        u, plans = planner.act(x, plans)
        x = draw.step(x.expand(1, 3, 1, -1), u.expand(1, 3, 1, -1))[0, 1, 0]
        places.append(float(x[0]))
    assert max(places) < 0.3
    assert places[-1] > 0.05


def test_coloured_noise_has_unit_variance_and_is_smooth():
    for horizon in (8, 25):
        for exponent in (0.0, 1.0, 3.0):
            noise = coloured(4000, horizon, 2, exponent, gen())
            assert noise.shape == (4000, horizon, 2)
            assert float(noise.var()) == pytest.approx(1.0, rel=0.1)
    rough = lambda e: (coloured(500, 25, 1, e, gen()).diff(dim=1) ** 2).mean()  # noqa: E731
    assert rough(3.0) < 0.3 * rough(0.0)


def test_no_plan_looks_beyond_the_trial():
    seen = []
    draw, task = make_draw(), make_task()

    def spy(state, action, next_state, xp):
        seen.append(action.shape[0])
        return reward(state, action, next_state, xp)

    planner = Planner("cem", replace(task, reward=spy), lambda _: draw, SMALL, gen())
    planner.act(torch.zeros(2), planner.fresh(), left=3)
    assert set(seen) == {3}


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"horizon": 0}, "horizon=0"), ({"elite_share": 0.0}, "elite_share"), ({"momentum": 1.0}, "momentum"),
        ({"initial_std": 0.0}, "initial_std"), ({"shrink": 0.5}, "shrink"), ({"objective": "men"}, "did you mean mean"),
        ({"propagation": "ts2"}, "propagation"), ({"risk_weight": -1.0}, "risk_weight"),
    ],
)  # fmt: skip
def test_bad_settings(kwargs, words):
    with pytest.raises(UserError, match=words):
        PlanningConfig(**kwargs)


def test_an_unknown_planner():
    with pytest.raises(UserError, match="did you mean cem"):
        Planner("cemm", make_task(), lambda _: make_draw(), SMALL, gen())
