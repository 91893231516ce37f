"""Policy search on a known system: a cart on rails with a reward at a place away from the start."""

import math
import re
from dataclasses import replace

import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.dynamics import DynamicsDraw, Geometry, make_stepping
from dynapilco.inference import DenseDraw, DenseStack, Gaussian
from dynapilco.policies import make_policy
from dynapilco.rollout import Trajectories, step_rewards
from dynapilco.search import Imagination, PathwiseSearch, SearchConfig, predicted_returns
from dynapilco.search.candidates import Candidates
from dynapilco.search.config import optimistic_mean
from dynapilco.search.pathwise import (
    GIVE_UP_AFTER,
    LOST_FOR,
    cosine,
    credit_seconds,
    reward_power,
)
from dynapilco.tasks import ActionCodec, Task
from dynapilco.tasks.task import SHARPNESS

DT, T, GOAL = 0.2, 15, 0.5
GEOMETRY = Geometry(2, 1, (), ((0, 1),), DT)
LOW, HIGH = torch.tensor([-2.0]), torch.tensor([2.0])


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def reward(state, action, next_state, xp):
    return xp.exp(-((next_state[..., 0] - GOAL) ** 2) / 0.1 - 0.1 * next_state[..., 1] ** 2)


def make_task(reward=reward):
    empty = [("",) * n for n in (2, 2, 1, 1)]
    codec = ActionCodec.of(spaces.Box(LOW.numpy(), HIGH.numpy()))
    return Task(GEOMETRY, codec, T, reward, None, torch.zeros(2), torch.full((2,), 0.05), *empty)


def double_integrator(functions=3, noise=0.01):
    """Exact: p' = p + dt v + dt^2/2 u, v' = v + dt u; the functions differ a little in the strength of u."""
    weights = torch.zeros(functions, 3, 2)
    strength = torch.linspace(0.9, 1.1, functions)
    weights[:, 1, 0], weights[:, 2, 0], weights[:, 2, 1] = DT, DT**2 / 2 * strength, DT * strength
    stack = DenseStack((weights,), (torch.zeros(functions, 2),), ())
    draw = DenseDraw(functions, torch.full((functions, 2), noise), Gaussian(), stack)
    return DynamicsDraw(draw, GEOMETRY, make_stepping(GEOMETRY, "delta"), None)


def imagine(reward=reward, moment_matching=False, sample=None):
    draw = double_integrator()
    return Imagination(make_task(reward), sample or (lambda generator: draw), 4, moment_matching)


def controller(name="mlp"):
    kwargs = {"mlp": {"hidden": (8,)}, "linear": {}, "rbf": {"units": 8}}[name]
    return make_policy(name, kwargs, GEOMETRY, LOW, HIGH, torch.ones(2))


SHORT = SearchConfig(steps=30, screening_steps=10, fresh_starts=2, survivors=2, learning_rate=0.02)
LONG = replace(SHORT, steps=150, screening_steps=30)


def search(config=SHORT, policy=None, imagination=None, seed=0, **kwargs):
    return PathwiseSearch(policy or controller(), imagination or imagine(), config, gen(seed), **kwargs)


@pytest.mark.parametrize("policy", ["mlp", "rbf", "linear"])
@pytest.mark.parametrize("mm", [False, True], ids=["tsinf", "moments"])
def test_the_optimum_is_found(policy, mm):
    policy, im = controller(policy), imagine(moment_matching=mm)
    report = search(LONG, policy, im).run(None)
    start = predicted_returns(policy, policy.init(20, gen(9)), im, gen(1), 4)
    found = predicted_returns(policy, report.params.unsqueeze(0), im, gen(1), 4)[0]
    assert found > start.max()
    assert found > 8  # of 15; it takes some steps to get there
    assert report.predicted_return == pytest.approx(float(found), abs=0.3)
    assert (report.bad_rollouts, report.restarts) == (0, 0)
    assert report.winner == "fresh"
    assert report.params.shape == (policy.layout.total,)
    assert not report.params.requires_grad


def test_predicted_returns_are_sums_of_rewards():
    """With the reward 1 at every step a trial is worth T; with the last step's position, what the rollout says."""
    policy, im = controller(), imagine(lambda x, u, y, xp: xp.ones_like(y[..., 0]))
    params = policy.init(3, gen())
    torch.testing.assert_close(predicted_returns(policy, params, im, gen(), 2), torch.full((3,), float(T)))


@pytest.mark.parametrize("mm", [False, True])
def test_one_generator_gives_one_search(mm):
    before = torch.get_rng_state()
    warm = controller().init(2, gen(7))
    reports = [search(imagination=imagine(moment_matching=mm), seed=s).run(warm) for s in (0, 0, 1)]
    assert torch.equal(reports[0].params, reports[1].params)
    assert reports[0].returns == reports[1].returns
    assert not torch.equal(reports[0].params, reports[2].params)
    assert torch.equal(before, torch.get_rng_state())


def test_warm_starts_are_kept_and_never_made_worse():
    policy, im = controller(), imagine()
    good = search(LONG, policy, im).run(None)
    warm = good.params.unsqueeze(0).clone()
    kept = warm.clone()
    wild = search(replace(SHORT, learning_rate=5.0), policy, im, seed=1).run(warm)
    assert wild.winner == "unchanged"
    assert torch.equal(wild.params, warm[0])
    assert torch.equal(warm, kept)  # the caller's tensor is left alone
    tame = search(replace(SHORT, learning_rate=1e-4), policy, im, seed=1).run(warm)
    assert tame.winner in ("warm", "unchanged")


def test_halving_keeps_the_best():
    policy = controller()
    config = replace(SHORT, fresh_starts=6, survivors=2, screening_steps=5, credit_seconds=(0.5,))
    run, seen = search(config, policy), []
    evaluate = run._evaluate

    def spy(params, **kwargs):
        returns = evaluate(params, **kwargs)
        seen.append((params.clone(), returns))
        return returns

    run._evaluate = spy
    kept = []
    keep = Candidates.keep
    run_keep = lambda self, index: (keep(self, index), kept.append(self.params.detach().clone()))  # noqa: E731
    try:
        Candidates.keep = run_keep
        report = run.run(None)
    finally:
        Candidates.keep = keep
    (screened, returns), (finalists, last) = seen
    assert screened.shape[0] == 6
    assert finalists.shape[0] == 2
    best = returns.topk(2).indices
    assert torch.equal(kept[0], screened[best])
    assert torch.equal(report.params, finalists[last.argmax()])
    assert report.predicted_return != float(last.max())  # by samples that did not choose the winner
    assert report.predicted_return == pytest.approx(float(last.max()), rel=0.2)


def test_the_best_of_every_credit_comes_first():
    c = Candidates(torch.zeros(5, 2), [0.5, 1.0, 0.5, 1.0, 0.5])
    returns = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
    assert c.best(returns, 1).tolist() == [0]
    assert c.best(returns, 2).tolist() == [0, 3]
    assert c.best(returns, 4).tolist() == [0, 3, 2, 4]
    assert c.best(torch.full((5,), -torch.inf), 9).tolist() == [0, 1, 2, 3, 4]


def test_a_candidate_whose_return_is_not_finite_leads_nothing():
    c = Candidates(torch.zeros(4, 2), [0.5, 2.0, 0.5, 2.0])
    bad = -torch.inf
    assert c.best(torch.tensor([5.0, bad, 4.0, bad]), 2).tolist() == [0, 2]


def test_where_nothing_can_be_evaluated_the_warm_policy_stays():
    policy = controller()
    warm = policy.init(1, gen(7))
    report = search(SHORT, policy, imagine(lambda x, u, y, xp: y[..., 0] * math.nan)).run(warm)
    assert report.winner == "unchanged"
    assert torch.equal(report.params, warm[0])


def test_no_warm_start_at_all_is_no_warm_start():
    policy = controller()
    warm = policy.init(2, gen(7))[:0]
    assert search(replace(SHORT, fresh_starts=0), policy).run(warm).winner == "fresh"


def test_time_constants_move_also_without_new_draws():
    run = search(replace(SHORT, redraw_every=1000, steps=80, screening_steps=80, credit_seconds=(2.0,)))
    run.begin(None, 1)
    decays = []
    for step in range(80):
        run.step(step)
        decays.append(float(run.simulator.damping.decay[0]))
    assert decays[0] == pytest.approx(math.exp(-DT / 2.0))
    assert decays[45] == pytest.approx(math.exp(-DT / 0.5))


def test_a_reward_without_gradient_is_told():
    with pytest.raises(UserError, match="changes smoothly"):
        search(imagination=imagine(lambda x, u, y, xp: (y[..., 0] > 0) * 1.0)).run(None)


def test_credit_goes_from_first_to_final():
    assert credit_seconds(2.0, 0.5, 0.0) == 2.0
    assert credit_seconds(2.0, 0.5, 0.25) == pytest.approx(1.0)
    assert credit_seconds(2.0, 0.5, 0.5) == credit_seconds(2.0, 0.5, 1.0) == pytest.approx(0.5)
    assert credit_seconds(2.0, 0.0, 0.9) == 2.0
    assert credit_seconds(0.0, 0.5, 0.9) == 0.0  # gradients that do not fade have no way between


def test_the_simulator_is_given_each_candidates_credit():
    run = search(replace(SHORT, credit_seconds=(0.2, 0.8), final_credit_seconds=0.4))
    run.begin(None, 2)
    for done, expected in ((0.0, (0.2, 0.8)), (0.5, (0.4, 0.4))):
        damping = run._damping(3, done)
        assert damping.decay.tolist() == pytest.approx([math.exp(-DT / s) for s in expected])


def far_away(state, action, next_state, xp):
    """A reward that underflows for whoever goes left."""
    return xp.exp(-((next_state[..., 0] - GOAL) ** 2) / 0.01)


def test_candidates_without_reward_or_gradient_start_afresh():
    """One candidate is sent far away, where exp underflows; within the first steps it comes back as another."""
    policy = controller("linear")
    config = replace(SHORT, fresh_starts=3, screening_steps=30, steps=60, action_noise=0.0)
    run = search(config, policy, imagine(far_away))
    run.begin(None, 3)
    with torch.no_grad():
        run.candidates.params[:2] *= 0.1
        run.candidates.params[2] = 0.0
        run.candidates.params[2, -1] = -50.0  # the bias: full force to the left
    sent = run.candidates.params[2].detach().clone()
    for step in range(LOST_FOR):
        assert run.lost == 0
        run.step(step)
    assert run.lost == 1
    assert not torch.allclose(run.candidates.params[2].detach(), sent, atol=1.0)
    assert (run.restarts, run.bad_rollouts) == (0, 0)


def test_late_in_the_screening_nobody_starts_afresh():
    run = search(replace(SHORT, screening_steps=4, steps=60), controller("linear"), imagine(far_away))
    run.begin(None, 2)
    with torch.no_grad():
        run.candidates.params[1] = 0.0
        run.candidates.params[1, -1] = -50.0
    for step in range(30):
        run.step(step)
    assert run.lost == 0


@pytest.mark.parametrize(("starts", "survivors"), [(1, 1), (1, 4), (3, 3)])
def test_as_many_survivors_as_candidates(starts, survivors):
    report = search(replace(SHORT, fresh_starts=starts, survivors=survivors)).run(None)
    assert len(report.returns) == starts


def test_without_fresh_starts_there_is_still_one_candidate():
    assert len(search(replace(SHORT, fresh_starts=0)).run(None).returns) == 1
    warm = controller().init(1, gen(3))
    assert len(search(replace(SHORT, fresh_starts=0)).run(warm).returns) == 2  # trained, and unchanged


def breaking(bad):
    """A reward that is NaN where ``bad(calls, shape)`` says; -> (reward, list of calls)."""
    calls = []

    def broken(state, action, next_state, xp):
        value = reward(state, action, next_state, xp)
        calls.append(value.requires_grad)
        where = bad(len(calls), value)
        return value * xp.where(where, math.nan, 1.0)  # value and gradient, of those entries alone

    return broken, calls


def test_a_reward_that_turns_nan_for_some_steps_is_skipped():
    def bad(call, value):
        where = torch.zeros_like(value, dtype=torch.bool)
        if call in (3, 4, 7):
            where[2, 0, 1, 1] = True  # one step of one particle of candidate 0
        return where

    broken, _ = breaking(bad)
    report = search(imagination=imagine(broken)).run(None)
    assert report.bad_rollouts == 3
    assert report.restarts == 0
    assert torch.isfinite(report.params).all()
    assert math.isfinite(report.predicted_return)


def test_a_bad_step_leaves_its_candidate_alone_and_moves_the_others():
    def bad(call, value):
        where = torch.zeros_like(value, dtype=torch.bool)
        where[:, 0] = True
        return where

    broken, _ = breaking(bad)
    run = search(imagination=imagine(broken))
    run.begin(None, 2)
    before = run.candidates.params.detach().clone()
    run.step(0)
    after = run.candidates.params.detach()
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    assert run.candidates.count.flatten().tolist() == [0, 1]
    assert run.candidates.first[0].abs().max() == 0
    assert run.bad_rollouts == 1
    assert run.candidates.bad_in_a_row.tolist() == [1, 0]


def test_a_candidate_that_stays_bad_starts_afresh():
    def bad(call, value):
        where = torch.zeros_like(value, dtype=torch.bool)
        if value.requires_grad:
            where[:, 0] = call <= 2 * GIVE_UP_AFTER
        return where

    broken, _ = breaking(bad)
    config = replace(SHORT, steps=70, screening_steps=70)
    run = search(config, imagination=imagine(broken))
    run.begin(None, 2)
    before = run.candidates.params.detach().clone()
    for step in range(GIVE_UP_AFTER - 1):
        run.step(step)
    assert run.restarts == 0
    assert torch.equal(run.candidates.params.detach()[0], before[0])
    run.step(GIVE_UP_AFTER - 1)
    assert run.restarts == 1
    assert not torch.equal(run.candidates.params.detach()[0], before[0])
    assert run.candidates.bad_in_a_row.tolist() == [0, 0]
    broken, _ = breaking(bad)
    report = search(config, imagination=imagine(broken)).run(None)
    assert (report.bad_rollouts, report.restarts) == (2 * GIVE_UP_AFTER, 2)
    assert torch.isfinite(report.params).all()


def test_interrupted_badness_does_not_add_up():
    broken, _ = breaking(lambda call, value: torch.full_like(value, call % 2, dtype=torch.bool) & value.requires_grad)
    config = replace(SHORT, steps=70, screening_steps=70)
    report = search(config, imagination=imagine(broken)).run(None)
    assert report.restarts == 0
    assert report.bad_rollouts == 70  # 35 steps of 2 candidates


def test_a_reward_that_is_always_nan_still_returns_finite_parameters():
    broken, _ = breaking(lambda call, value: torch.ones_like(value, dtype=torch.bool))
    report = search(imagination=imagine(broken)).run(None)
    assert torch.isfinite(report.params).all()
    assert report.bad_rollouts > 0


def test_a_candidate_whose_evaluation_fails_does_not_win():
    def bad(call, value):
        where = torch.zeros_like(value, dtype=torch.bool)
        if not value.requires_grad and value.shape[1] > 1:  # while several are compared
            where[:, 0] = True
        return where

    broken, _ = breaking(bad)
    report = search(imagination=imagine(broken)).run(None)
    assert math.isfinite(report.predicted_return)
    assert sorted(map(math.isfinite, report.returns)) == [False, True]


def test_an_infinite_return_does_not_win():
    def infinite(state, action, next_state, xp):
        value = reward(state, action, next_state, xp).clone()
        if not value.requires_grad:
            value[:, 0] = math.inf
        return value

    assert search(imagination=imagine(infinite)).run(None).predicted_return < T


@pytest.mark.parametrize("limit", [1e-3, 0.1, 1e9])
def test_gradients_are_clipped(monkeypatch, limit):
    """Each candidate by its own norm, and with the direction unchanged."""
    given = []
    monkeypatch.setattr(Candidates, "update", lambda self, gradient, *_: given.append(gradient.clone()))
    big = lambda x, u, y, xp: 100 * reward(x, u, y, xp)  # noqa: E731
    for clip in (limit, 1e30):
        run = search(replace(SHORT, clip_norm=clip), imagination=imagine(big))
        run.begin(None, 3)
        run.step(0)
    norms, free = given[0].norm(dim=1), given[1].norm(dim=1)
    assert (norms <= limit * (1 + 1e-5)).all()
    torch.testing.assert_close(norms, free.clamp_max(limit), rtol=1e-4, atol=0)
    cosines = torch.cosine_similarity(given[0], given[1])
    torch.testing.assert_close(cosines, torch.ones(3), atol=1e-5, rtol=0)


def test_steps_go_uphill():
    """The gradient that is handed on is that of minus the mean reward (without damping: exactly)."""
    config = replace(SHORT, credit_seconds=(0.0,), adjoint_limit=0.0, action_noise=0.0, clip_norm=1e9)
    run = search(config)
    run.begin(None, 2)
    run._refresh(0)
    given = []
    run.candidates.update = lambda gradient, *_: given.append(gradient)
    params = run.candidates.params.detach().clone()
    run.step(1)  # on the noise of step 0 unless refreshed
    noise = run.noise

    def objective(p):
        made = run.simulator(p, noise, T, 0.0)
        return step_rewards(make_task(), made).double().mean((0, 2, 3))

    direction = -given[0] / given[0].norm(dim=1, keepdim=True)
    step = 1e-2
    slope = (objective(params + step * direction) - objective(params - step * direction)) / (2 * step)
    torch.testing.assert_close(slope.float(), given[0].norm(dim=1), rtol=0.05, atol=1e-4)


def test_candidates_adam_equals_torch():
    params = torch.randn(3, 11, generator=gen())
    ours, theirs = Candidates(params, [1.0] * len(params)), params.clone().requires_grad_(True)
    adam = torch.optim.Adam([theirs], lr=0.1)
    for step in range(30):
        gradient = torch.randn(3, 11, generator=gen(step + 1))
        rate = cosine(0.1, step / 30)
        adam.param_groups[0]["lr"] = rate
        theirs.grad = gradient.clone()
        adam.step()
        ours.update(gradient, rate, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(ours.params.detach(), theirs.detach(), atol=1e-5, rtol=1e-5)


def test_rows_have_their_own_adam():
    """A row that skipped steps is where it would be had it been alone without them."""
    params = torch.randn(2, 5, generator=gen())
    both, alone = Candidates(params, [1.0] * len(params)), Candidates(params[1:], [1.0])
    for step in range(12):
        gradient = torch.randn(2, 5, generator=gen(step + 1))
        good = torch.tensor([True, step % 3 != 0])
        both.update(torch.where(good.unsqueeze(1), gradient, 0.0), 0.1, good)
        if good[1]:
            alone.update(gradient[1:], 0.1, torch.ones(1, dtype=torch.bool))
    torch.testing.assert_close(both.params[1:].detach(), alone.params.detach())


def test_keeping_and_replacing_rows():
    c = Candidates(torch.arange(12.0).reshape(4, 3), [0.1, 0.2, 0.3, 0.4])
    c.update(torch.ones(4, 3), 0.1, torch.tensor([True, True, False, True]))
    c.keep(torch.tensor([3, 1]))
    assert len(c) == 2
    assert c.params.requires_grad
    torch.testing.assert_close(c.params.detach(), torch.tensor([[9.0, 10, 11], [3, 4, 5]]) - 0.1)
    assert c.count.flatten().tolist() == [1, 1]
    assert c.credit == [0.4, 0.2]
    c.replace(0, torch.zeros(3))
    assert c.params[0].abs().max() == 0
    assert (c.count[0], c.first[0].abs().max(), c.second[0].abs().max()) == (0, 0, 0)
    assert c.count[1] == 1


def test_schedules():
    assert cosine(0.5, 0.0) == pytest.approx(0.5)
    assert cosine(0.5, 1.0) == pytest.approx(0.001)
    config = replace(SHORT, initial_reward_power=0.25, final_reward_power=4.0)
    assert [reward_power(config, d) for d in (0, 0.25, 0.5, 1)] == pytest.approx([0.25, 1, 4, 4])
    assert reward_power(SHORT, 0.3) == 1


@pytest.mark.parametrize(("refresh", "redraw"), [(1, 20), (5, 20), (1000, 7)])
def test_random_numbers_and_draws_are_renewed_on_schedule(refresh, redraw):
    count, noises = [], []

    def sample(generator):
        count.append(1)
        return double_integrator()

    run = search(replace(SHORT, refresh_every=refresh, redraw_every=redraw), imagination=imagine(sample=sample))
    run.begin(None, 2)
    for step in range(30):
        run.step(step)
        noises.append(run.noise)
    changes = [i for i in range(1, 30) if noises[i] is not noises[i - 1]]
    assert changes == [i for i in range(1, 30) if i % refresh == 0 or i % redraw == 0]
    assert len(count) == math.ceil(30 / redraw)


def test_the_callback_hears_steps_and_return():
    heard = []
    search(replace(SHORT, steps=60), callback=lambda *a: heard.append(a)).run(None)
    assert [(done, total) for done, total, _ in heard] == [(25, 60), (50, 60)]
    assert all(0 <= metrics["predicted_return"] <= T for _, _, metrics in heard)


def test_a_reward_power_widens_the_reward():
    policy = controller()
    for power in (0.2, 3.0):
        report = search(replace(SHORT, initial_reward_power=power), policy).run(None)
        assert math.isfinite(report.predicted_return)
        assert report.predicted_return <= T  # reported in the units of the task


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("screening_steps", 0), ("survivors", 0), ("refresh_every", 0), ("redraw_every", 0),
        ("fresh_starts", -1), ("learning_rate", 0.0), ("clip_norm", -1.0), ("clip_norm", math.nan),
        ("initial_reward_power", 0.0), ("final_reward_power", -1.0), ("action_noise", -0.1),
        ("action_noise", math.nan), ("credit_seconds", (1.0, -1.0)), ("credit_seconds", ()), ("adjoint_limit", -1.0),
        ("final_credit_seconds", -0.1), ("final_credit_seconds", None), ("steps", 2.5),
        ("survivors", True), ("credit_seconds", 0.5),
        ("learning_rate", None),
    ],
)  # fmt: skip
def test_bad_settings(name, value):
    with pytest.raises(UserError, match=re.escape(f"{name}={value!r}")):
        SearchConfig(**{name: value})


def test_optimism_favours_the_functions_under_which_a_policy_does_well():
    values = torch.tensor([[0.1, 0.5, 0.9], [0.4, 0.4, 0.4]])
    torch.testing.assert_close(optimistic_mean(values, 0.0), values.mean(1))
    torch.testing.assert_close(optimistic_mean(values, 1e-3), values.mean(1), atol=1e-3, rtol=0)
    some, more = optimistic_mean(values, 5.0), optimistic_mean(values, 200.0)
    assert values[0].mean() < some[0] < more[0] < 0.9
    torch.testing.assert_close(more[1], torch.tensor(0.4))
    report = search(replace(SHORT, optimism=10.0), controller()).run(None)
    assert math.isfinite(report.predicted_return)


def ending(x, u, y, xp):
    """Ends right of 0.4."""
    return 0.4 - y[..., 0]


def test_nothing_is_earned_after_an_end():
    task = replace(make_task(lambda x, u, y, xp: xp.ones_like(y[..., 0])), margin=ending)
    states = torch.tensor([0.0, 0.2, 0.5, 0.1, 0.1]).reshape(5, 1, 1, 1, 1) * torch.ones(2)
    trajectories = Trajectories(states, torch.zeros(4, 1, 1, 1, 1))
    assert step_rewards(task, trajectories).flatten().tolist() == [1, 1, 0, 0]  # the step that ends it still counts
    smooth = step_rewards(task, trajectories, smooth=True).flatten()
    ends = torch.sigmoid(-SHARPNESS * torch.tensor([0.2, -0.1, 0.3]))
    expected = torch.cat([torch.ones(1), (1 - ends).cumprod(0)])
    torch.testing.assert_close(smooth, expected)


def test_an_end_keeps_the_policy_from_where_the_reward_would_lead():
    """The reward grows to the right, where the episode ends: the search stays left of it."""
    task = replace(
        make_task(lambda x, u, y, xp: 1 + 0.1 * y[..., 0]), margin=lambda x, u, y, xp: 2 * ending(x, u, y, xp)
    )
    im = replace(imagine(), task=task)
    report = search(LONG, controller(), im).run(None)
    assert report.predicted_return > 0.95 * T
    free = replace(im, task=replace(task, margin=None))
    found = search(LONG, controller(), free).run(None)
    assert float(predicted_returns(controller(), found.params.unsqueeze(0), im, gen(1), 4)) < 0.8 * T


def test_choices_are_searched_by_gradients():
    """Force to the left, none, or to the right: the search finds which, by the straight-through Gumbel-softmax."""
    force = torch.tensor([[-2.0], [0.0], [2.0]])
    geometry = replace(GEOMETRY, actions=3, choices=(3,))
    base = double_integrator()
    stack = base.functions.dense(4)
    weights = torch.cat([stack.weights[0][:, :2], force @ stack.weights[0][:, 2:]], 1)
    functions = DenseDraw(3, base.functions.scale, Gaussian(), DenseStack((weights,), stack.biases, ()))
    draw = DynamicsDraw(functions, geometry, make_stepping(geometry, "delta"), None)
    task = replace(make_task(), geometry=geometry, codec=ActionCodec.of(spaces.Discrete(3)))
    policy = make_policy("mlp", {"hidden": (8,)}, geometry, torch.zeros(3), torch.ones(3), torch.ones(2))
    im = Imagination(task, lambda generator: draw, 4, False)
    actions = policy.act(policy.init(1, gen())[0], torch.randn(50, 2, generator=gen(1)))
    assert ((actions == 0) | (actions == 1)).all()
    assert (actions.sum(1) == 1).all()
    report = search(LONG, policy, im).run(None)
    start = predicted_returns(policy, policy.init(20, gen(9)), im, gen(1), 4)
    assert report.predicted_return > max(float(start.max()), 8.0)


def test_a_discounted_reward_counts_less_the_later_it_comes():
    im = imagine()
    policy, generator = controller(), gen(3)
    params = policy.init(2, generator)
    draw = im.sample_draw(generator)
    rollout = im.simulator(draw, policy)(params, im.noise(draw, 2, gen(4)), im.horizon)
    plain, discounted = step_rewards(im.task, rollout), step_rewards(im.task, rollout, discount=0.5)
    for step in (0, 1, 5):
        torch.testing.assert_close(discounted[step], plain[step] * 0.5**step)
    near = predicted_returns(policy, params, replace(im, discount=0.5), gen(5), 1)
    torch.testing.assert_close(near, step_rewards(im.task, im.simulator(draw, policy)(
        params, im.noise(draw, 2, gen(5)), im.horizon), discount=0.5).mean((2, 3)).sum(0))  # fmt: skip
    found = PathwiseSearch(policy, replace(im, discount=0.5), SHORT, gen(6)).run(None)
    whole = predicted_returns(policy, found.params[None], im, gen(7), 8)
    assert found.predicted_return == pytest.approx(float(whole), rel=0.1)  # what is told is not discounted
    assert max(found.returns) < 2 < found.predicted_return


def test_time_constants_below_a_step_count_as_in_a_faster_system():
    """A step of a day: half a second of credit would be none at all."""
    slow = imagine()
    slow = replace(slow, task=replace(slow.task, geometry=replace(GEOMETRY, dt=86400.0)))
    run = search(replace(SHORT, credit_seconds=(0.5, 2.0), final_credit_seconds=0.5), imagination=slow)
    run.begin(None, 2)
    assert run._damping(3, 0.0).decay.tolist() == pytest.approx([math.exp(-0.05 / s) for s in (0.5, 2.0)])
