"""Features, stepping and normalisation."""

from dataclasses import replace

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.dynamics import Geometry, Normaliser, Transitions, make_stepping
from dynapilco.dynamics.encoding import visited_bounds

CART = Geometry(4, 1, (2,), ((0, 1), (2, 3)), 0.05)
MIXED = Geometry(5, 2, (0, 3), ((0, 4), (3, 1)), 0.1)  # column 2 belongs to no pair
PLAIN = Geometry(3, 1)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def test_features_are_state_sines_cosines():
    x = randn(6, 7, 5)
    z = MIXED.features(x)
    assert z.shape == (6, 7, 9)
    angles = x[..., [0, 3]]
    torch.testing.assert_close(z, torch.cat([x, torch.sin(angles), torch.cos(angles)], -1))
    assert PLAIN.features(x[..., :3]).shape == (6, 7, 3)
    assert (MIXED.state_features, PLAIN.state_features) == (9, 3)


@pytest.mark.parametrize("geometry", [CART, MIXED, PLAIN])
def test_selection_drops_raw_angles_and_keeps_the_order(geometry):
    extra = geometry.actions
    z = randn(4, geometry.state_features + extra)
    kept = geometry.kept(extra)
    assert not set(kept) & set(geometry.angles)
    assert len(kept) == geometry.state_features + extra - len(geometry.angles)
    torch.testing.assert_close(z @ geometry.selection(extra), z[:, kept])


def test_a_full_turn_changes_nothing_that_is_kept():
    x = randn(4, 5)
    turned = x + 2 * torch.pi * torch.tensor([1.0, 0, 0, -1, 0])
    select = MIXED.selection()
    torch.testing.assert_close(MIXED.features(x) @ select, MIXED.features(turned) @ select, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrong", [{"angles": (5,)}, {"angles": (-1,)}, {"pairs": ((0, 9),)}])
def test_columns_outside_the_state(wrong):
    with pytest.raises(UserError, match=r"columns must lie in 0\.\.4"):
        Geometry(5, 1, **wrong)


@pytest.mark.parametrize("kind", ["delta", "corrected", "velocity", "auto"])
@pytest.mark.parametrize("geometry", [CART, MIXED])
def test_targets_and_advance_are_inverse(geometry, kind):
    stepping = make_stepping(geometry, kind)
    x, y = randn(9, geometry.states), randn(9, stepping.outputs, seed=1)
    torch.testing.assert_close(stepping.targets(x, stepping.advance(x, y)), y, atol=1e-5, rtol=1e-5)
    moved = randn(9, geometry.states, seed=2)
    back = stepping.advance(x, stepping.targets(x, moved))
    columns = list(stepping.columns)
    torch.testing.assert_close(back[:, columns], moved[:, columns], atol=1e-5, rtol=1e-5)
    if kind in ("delta", "corrected"):
        assert stepping.outputs == geometry.states


def test_what_each_kind_predicts():
    assert make_stepping(MIXED, "velocity").columns == (1, 2, 4)
    assert make_stepping(MIXED, "auto").columns == make_stepping(MIXED, "corrected").columns
    assert make_stepping(MIXED, "corrected").columns == (0, 1, 2, 3, 4)
    assert make_stepping(PLAIN, "auto").columns == (0, 1, 2)
    x = randn(9, 4)
    delta = make_stepping(CART, "delta")
    torch.testing.assert_close(delta.targets(x, x + 1), torch.ones(9, 4))


@pytest.mark.parametrize("kind", ["velocity", "corrected"])
def test_positions_follow_by_the_trapezoidal_rule(kind):
    """Exact for constant acceleration: p' = p + dt v + dt^2/2 a."""
    stepping = make_stepping(CART, kind)
    x, acceleration = randn(9, 4), randn(9, 2, seed=1)
    dt, moved = 0.05, x.clone()
    moved[:, [1, 3]] += dt * acceleration
    moved[:, [0, 2]] += dt * x[:, [1, 3]] + dt**2 / 2 * acceleration
    y = stepping.targets(x, moved)
    torch.testing.assert_close(stepping.advance(x, y), moved)
    velocities = y if kind == "velocity" else y[:, [1, 3]]
    torch.testing.assert_close(velocities, dt * acceleration, atol=1e-6, rtol=1e-5)
    if kind == "corrected":
        assert y[:, [0, 2]].abs().max() < 1e-6  # the rule misses nothing


@pytest.mark.parametrize("geometry", [PLAIN, Geometry(2, 1, (), ((0, 1),), None), Geometry(2, 1, (), (), 0.1)])
@pytest.mark.parametrize("kind", ["velocity", "corrected"])
def test_integration_needs_pairs_and_dt(geometry, kind):
    with pytest.raises(UserError, match=f"targets='{kind}' needs"):
        make_stepping(geometry, kind)


def test_normaliser_gives_unit_scale():
    rows = 3 + 5 * randn(500, 4)
    z = Normaliser.of_inputs(rows)(rows)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.ones(4))
    targets = Normaliser.of_targets(rows)
    assert targets.mean.abs().max() == 0  # a change of zero stays zero
    torch.testing.assert_close(targets(rows).square().mean(0), torch.ones(4))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.3, 1e6, 0.1, 1e-20, 123456.78])
@pytest.mark.parametrize("rows", [1, 2, 333])
def test_constant_columns_are_safe(value, rows):
    column = torch.full((rows, 1), value)
    normaliser = Normaliser.of_inputs(column)
    assert normaliser.std.item() == 1
    assert normaliser(column).abs().max() <= 1e-6 * max(1, abs(value))
    targets = Normaliser.of_targets(column)
    assert torch.isfinite(targets(column)).all()
    assert targets.std.item() == (1 if abs(value) < 1e-12 else pytest.approx(abs(value)))


def test_a_small_but_real_variation_is_not_taken_for_a_constant():
    rows = 1e-4 * randn(200, 1)
    assert Normaliser.of_inputs(rows).std.item() == pytest.approx(1e-4, rel=0.2)


def moving(rows, geometry, still=()):
    """Transitions between random states, columns ``still`` unchanged."""
    x, after = rows * randn(50, geometry.states), rows * randn(50, geometry.states, seed=1)
    after[:, list(still)] = x[:, list(still)]
    zeros = torch.zeros(50)
    return Transitions(x, torch.zeros(50, geometry.actions), after, zeros, zeros.long())


def test_free_columns_keep_to_the_visited_box_made_wider():
    geometry = Geometry(6, 1, angles=(0,), pairs=((1, 2),), dt=0.1, unseen=(5,))
    data = moving(3.0, geometry, still=(4,))
    low, high = visited_bounds(geometry, data, 3.0)
    seen = torch.cat([data.states, data.next_states])[:, 3]
    width = seen.max() - seen.min()
    assert geometry.free == [3, 4]  # column 4 never moves: it cannot run away
    torch.testing.assert_close(low[3], seen.min() - width)
    torch.testing.assert_close(high[3], seen.max() + width)
    assert torch.isinf(low[[0, 1, 2, 4, 5]]).all() and torch.isinf(high[[0, 1, 2, 4, 5]]).all()


def test_nothing_bounded_is_no_bounds():
    assert visited_bounds(CART, moving(1.0, CART), 3.0) is None
    assert visited_bounds(PLAIN, moving(1.0, PLAIN), float("inf")) is None


def test_stated_bounds_count_before_visited_ones_and_for_pairs_too():
    inf = float("inf")
    geometry = Geometry(3, 1, pairs=((0, 1),), dt=0.1, bounds=((-4.0, 4.0), (-inf, inf), (-9.0, inf)))
    data = moving(1.0, geometry)
    low, high = visited_bounds(geometry, data, 2.0)
    assert (low[0], high[0], low[1], high[1], low[2]) == (-4, 4, -inf, inf, -9)
    assert high[2] < 10
    with pytest.raises(UserError, match="bounds="):
        Geometry(2, 1, bounds=((0.0, 1.0),))


def test_what_was_visited_outside_of_stated_bounds_stays_within_reach():
    geometry = Geometry(3, 1, bounds=((-1.0, 1.0), (-0.5, 9.0), (-9.0, 9.0)))
    data = moving(5.0, geometry)
    seen = torch.cat([data.states, data.next_states])
    low, high = visited_bounds(geometry, data, 3.0)
    assert torch.equal(low, torch.stack([seen[:, 0].min(), seen[:, 1].min(), seen[:, 2].min().clamp_max(-9)]))
    assert torch.equal(high, seen.amax(0).maximum(torch.tensor([1.0, 9.0, 9.0])))


def test_a_bounded_step_stays_inside_and_carries_no_gradient_there():
    stepping = replace(make_stepping(PLAIN, "delta"), bounds=torch.tensor([[-1.0, -1, -1], [1.0, 1, float("inf")]]))
    x = torch.tensor([[0.5, -0.5, 3.0]], requires_grad=True)
    after = stepping.advance(x, torch.tensor([[1.0, 0.1, 4.0]]))
    torch.testing.assert_close(after, torch.tensor([[1.0, -0.4, 7.0]]))
    after.sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0]]
    assert stepping.advance(torch.full((1, 3), torch.nan), torch.zeros(1, 3)).isnan().all()  # it must be seen
