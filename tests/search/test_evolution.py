"""Evolution strategies on known systems: a cart that is paid only at a place, and one that must stay on its track."""

from dataclasses import replace

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.rollout import step_rewards
from dynapilco.rollout.risk import OBJECTIVES, risk_value
from dynapilco.search import EvolutionConfig, EvolutionSearch, Imagination, predicted_returns
from dynapilco.search.evolution import _utilities
from dynapilco.search.rivals import Rivals, Tried, is_clearly_better
from tests.search.test_pathwise import DT, GOAL, T, controller, double_integrator, gen, imagine, make_task

SMALL = EvolutionConfig(generations=25, population=32, fresh_starts=8, draws=3, particles=2, spread=0.3)


def indicator(state, action, next_state, xp):
    """1 near the goal, nothing elsewhere: no gradient anywhere."""
    near = abs(next_state[..., 0] - GOAL) < 0.15
    return xp.where(near, xp.ones_like(next_state[..., 0]), xp.zeros_like(next_state[..., 0]))


def search(config=SMALL, seed=0, imagination=None, callback=None):
    im = imagination or imagine(indicator)
    return EvolutionSearch(controller("linear"), im, config, gen(seed), callback)


def test_it_finds_a_reward_without_gradients():
    bold = replace(SMALL, generations=60, patience=60, spread=1.0, learning_rate=0.2)
    report = search(bold).run(None)
    fresh = predicted_returns(
        controller("linear"), controller("linear").init(32, gen(1)), imagine(indicator), gen(2), 2
    )
    assert report.predicted_return > 0.5 * T
    assert report.predicted_return > 2 * float(fresh.mean())
    assert report.winner == "fresh"
    assert report.bad_rollouts == 0


def test_one_seed_is_one_search():
    one, again, other = search().run(None), search().run(None), search(seed=1).run(None)
    assert torch.equal(one.params, again.params)
    assert one.predicted_return == again.predicted_return
    assert not torch.equal(one.params, other.params)


def test_a_warm_start_is_never_lost():
    good = search().run(None)
    worse = replace(SMALL, generations=1, population=4, fresh_starts=1, learning_rate=50.0)
    report = search(worse, 3).run(good.params.unsqueeze(0))
    assert report.winner in ("warm", "unchanged")
    assert report.predicted_return > 0.8 * good.predicted_return


def falling(gain=1.5):
    """A cart that is thrown off its place: p'' = u + gain p, paid 1 for every step on a track of half a metre."""

    def margin(state, action, next_state, xp):
        return 1 - abs(next_state[..., 0]) / 0.5

    one = lambda state, action, next_state, xp: xp.ones_like(next_state[..., 0])  # noqa: E731
    draw = double_integrator(noise=0.02)
    draw.functions.stack.weights[0][:, 0, 1] += DT * gain
    task = replace(make_task(one), margin=margin, horizon=80)
    return Imagination(task, lambda generator: draw, 4, False)


def test_rollouts_lengthen_while_the_best_policy_goes_on():
    config = replace(SMALL, first_horizon=10, generations=40, spread=1.0)
    run = search(config, imagination=falling())
    assert run.steps == 10
    report = run.run(None)
    assert run.steps == 80
    assert report.predicted_return > 70


def test_where_nothing_ends_rollouts_are_whole():
    assert search(replace(SMALL, first_horizon=2)).steps == T


def test_patience_ends_a_search_that_goes_nowhere():
    told = []
    nothing = lambda state, action, next_state, xp: 0 * next_state[..., 0]  # noqa: E731
    config = replace(SMALL, patience=3)
    search(config, imagination=imagine(nothing), callback=lambda done, total, _: told.append((done, total))).run(None)
    assert told[-1] == (4, 25)


def test_bad_numbers_come_last_and_are_counted():
    def spoilt(state, action, next_state, xp):
        fine = indicator(state, action, next_state, xp)
        return xp.where(next_state[..., 0] < -0.3, fine * float("nan"), fine)

    report = search(imagination=imagine(spoilt)).run(None)
    assert report.bad_rollouts > 0
    assert torch.isfinite(report.params).all()
    assert report.predicted_return > 0.3 * T


def test_utilities_are_centred_ranks():
    values = torch.tensor([3.0, -torch.inf, 7.0])
    assert _utilities(values).tolist() == [0.0, -0.5, 0.5]


def test_equals_share_a_rank():
    """A tie says nothing: a mirrored pair that earns the same must not pull the centre its way."""
    values = torch.tensor([1.0, 4.0, 1.0, 1.0, 9.0, -torch.inf, -torch.inf])
    assert _utilities(values).tolist() == pytest.approx([n / 6 - 0.5 for n in (3, 5, 3, 3, 6, 0.5, 0.5)])
    assert _utilities(torch.ones(8)).tolist() == [0.0] * 8
    distinct = torch.randn(64, generator=gen(4))
    ranks = distinct.argsort().argsort().to(distinct.dtype)
    assert torch.equal(_utilities(distinct), ranks / 63 - 0.5)  # bit for bit as without ties


def test_where_all_earn_the_same_the_centre_stays():
    nothing = lambda state, action, next_state, xp: 0 * next_state[..., 0]  # noqa: E731
    run = search(imagination=imagine(nothing))
    run.unit = run._unit()
    start = controller("linear").init(1, gen(3))[0]
    assert all(torch.equal(found, start) for found in run._ascend(start)[:3])


def test_a_lucky_draw_is_no_record():
    """In one generation everything is worth 5 more: neither the best policy nor patience may hold on to that."""
    seen = []

    class Lucky(EvolutionSearch):
        def _try(self, rows):
            tried = super()._try(rows)
            seen.append(rows)
            bonus = 5.0 * (len(seen) == 3)
            return replace(tried, values=tried.values + bonus, returns=tried.returns + bonus)

    def found(kind):
        seen.clear()
        run = kind(controller("linear"), imagine(indicator), replace(SMALL, patience=4, generations=12), gen(0))
        run.unit = run._unit()
        return run._ascend(controller("linear").init(1, gen(3))[0]), len(seen)

    plain, lucky = found(EvolutionSearch), found(Lucky)
    assert lucky[1] > 7  # not out of patience 4 generations after the lucky one
    assert all(torch.equal(a, b) for a, b in zip(plain[0], lucky[0], strict=True))


def test_rivals_are_compared_under_the_same_draws():
    rivals = Rivals(torch.zeros(2))
    rivals.leader = torch.ones(2)
    base = torch.randn(20, 2, generator=gen(1))  # what the draws do to all of them

    def tried(*gains):
        returns = torch.stack([base + gain for gain in gains])
        return Tried(returns, returns.mean((1, 2)), torch.zeros(len(gains)))

    assert rivals.judge(tried(0.1, 0, 0, 0.0, 0.0, 0.01), torch.full((2,), 7.0), SMALL)
    assert rivals.centre.tolist() == [7.0, 7.0]
    assert rivals.best.tolist() == [1.0, 1.0]
    rivals.leader = torch.full((2,), 2.0)
    assert not rivals.judge(tried(-0.1, 9, 9, 0.0, 0.0, -0.01), torch.zeros(2), SMALL)
    assert (rivals.centre[0], rivals.best[0]) == (7.0, 1.0)
    assert rivals.rows().tolist() == [[7.0, 7.0], [1.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_clearly_better(objective):
    config = replace(SMALL, objective=objective, risk_share=0.5)
    base, noise = torch.randn(20, 2, generator=gen(1)), torch.randn(20, 2, generator=gen(2))
    assert is_clearly_better(base + 0.01, base, config)  # the same in every draw
    assert not is_clearly_better(base, base, config)
    assert not is_clearly_better(base + 0.05 + noise, base, config)  # less than the draws explain
    assert is_clearly_better(base + 3.0 + 0.1 * noise, base, config)
    assert not is_clearly_better(base - 3.0, base, config)
    assert not is_clearly_better(torch.full_like(base, torch.nan), base, config)
    assert is_clearly_better(base, torch.full_like(base, torch.nan), config)
    assert is_clearly_better(base[:1] + 3.0, base[:1], config)
    assert is_clearly_better(base[:1, :1] + 0.1, base[:1, :1], config)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    difference = torch.randn(20, 1, generator=gen(5))
    error = float(difference.std() / 20**0.5)
    for factor, clearly in ((1.99, False), (2.01, True)):
        shifted = difference - difference.mean() + factor * error
        assert is_clearly_better(shifted, torch.zeros(20, 1), SMALL) == clearly


def test_risk_values():
    returns = torch.tensor([[[0.0, 10.0], [5.0, 5.0]], [[4.0, 4.0], [4.0, 4.0]]])  # (2, 2 functions, 2 particles)
    assert risk_value(returns, "mean", 0.5, 1.0).tolist() == [5.0, 4.0]
    assert risk_value(returns, "cvar", 0.25, 1.0).tolist() == [0.0, 4.0]
    assert risk_value(returns, "mean_minus_std", 0.5, 1.0)[0] == pytest.approx(5 - 12.5**0.5, abs=1e-4)
    assert risk_value(returns, "optimistic", 0.5, 1.0)[0] == pytest.approx(5.0, abs=1e-4)  # functions agree: mean 5
    assert set(OBJECTIVES) == {"mean", "cvar", "mean_minus_std", "optimistic"}


def test_finalists_are_ranked_by_the_objective():
    rows = controller("linear").init(6, gen(8))
    worths = {}
    for objective in ("mean", "cvar", "mean_minus_std"):
        run = search(replace(SMALL, objective=objective), imagination=falling())
        worths[objective] = run._evaluate(rows, run.config.worth)
    plain = search(SMALL, imagination=falling())._evaluate(rows)
    torch.testing.assert_close(worths["mean"], plain)
    assert (worths["cvar"] <= worths["mean"]).all() and (worths["cvar"] < worths["mean"] - 1).any()
    assert (worths["mean_minus_std"] <= worths["mean"]).all()


def test_what_a_particle_does_after_its_end_does_not_matter():
    im = falling()
    policy = controller("linear")
    rollout = im.simulator(im.sample_draw(gen()), policy)(
        policy.init(3, gen(1)), im.noise(im.sample_draw(gen()), 3, gen(5)), im.horizon
    )
    wild = replace(
        im.task, reward=lambda x, u, y, xp: xp.where(abs(y[..., 0]) > 2, 1e38 * y[..., 0] ** 99, 1 + 0 * y[..., 0])
    )
    assert not torch.isfinite(wild.reward(rollout.states[:-1], rollout.actions, rollout.states[1:], torch)).all()
    earned = step_rewards(wild, rollout)
    assert torch.isfinite(earned).all()
    torch.testing.assert_close(earned, step_rewards(im.task, rollout))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"generations": 0}, "generations"), ({"population": 3}, "population"), ({"spread": 0.0}, "spread"),
        ({"learning_rate": float("nan")}, "learning_rate"), ({"objective": "luck"}, "objective"),
        ({"risk_share": 0.0}, "risk_share"), ({"risk_weight": -1.0}, "risk_weight"), ({"draws": 1.5}, "draws"),
        ({"patience": True}, "patience"), ({"population": 33}, "population=33: expected an even number"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(change, named):
    with pytest.raises(UserError, match=named):
        replace(SMALL, **change)
