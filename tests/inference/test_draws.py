"""The narrow waist: draws are fixed functions, whichever way they are computed."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import DenseDraw, Gaussian, ModuleDraw, StackedNetwork, mlp
from dynapilco.inference.draws import make_draw, spread

S, B, IN, OUT = 4, 6, 3, 2
KINDS = ("dense", "masks", "vmap", "module")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def build(kind):
    module = nn.Sequential(nn.Linear(IN, 7), nn.GELU(), nn.Linear(7, OUT)) if kind == "module" else mlp(IN, OUT, (7, 5))
    network = StackedNetwork(module, "vmap" if kind == "vmap" else "auto")
    masks = None
    if kind == "masks":
        masks = tuple((torch.rand(S, w, generator=gen(w)) < 0.7).float() / 0.7 for w in (7, 5))
    params = 0.5 * torch.randn(1 if masks else S, network.layout.total, generator=gen(1))
    return make_draw(network, params, 0.1 + torch.rand(S, OUT, generator=gen(2)), Gaussian(), masks)


@pytest.fixture(params=KINDS)
def draw(request):
    return build(request.param)


def inputs(seed=3, width=IN):
    return torch.randn(S, B, width, generator=gen(seed))


@pytest.mark.parametrize(
    ("kind", "cls"), [("dense", DenseDraw), ("masks", DenseDraw), ("vmap", ModuleDraw), ("module", ModuleDraw)]
)
def test_the_cheapest_draw_is_chosen(kind, cls):
    assert type(build(kind)) is cls


def test_dense_and_vmap_are_the_same_functions():
    torch.testing.assert_close(build("dense").each(inputs()), build("vmap").each(inputs()), **CLOSE)


def test_call_is_each_on_one_batch(draw):
    x = inputs()
    y = draw.each(x)
    assert y.shape == (S, B, OUT)
    for s in range(S):
        torch.testing.assert_close(draw(x[s])[s], y[s], **CLOSE)
    assert (draw(x[0])[0] - draw(x[0])[1]).abs().max() > 0.01  # the functions differ


def test_each_is_not_inferred_from_the_shape(draw):
    """A batch that has S rows stays one batch for all functions."""
    x = torch.randn(S, IN, generator=gen(5))
    assert draw(x).shape == (S, S, OUT)


def test_a_draw_is_fixed(draw):
    x = inputs()
    first = draw.each(x)
    draw.each(inputs(9)), draw(x[0]), draw.predictive(x[0]).sample()
    assert torch.equal(draw.each(x), first)
    torch.testing.assert_close(draw.each(x[:, 2:4]), first[:, 2:4], **CLOSE)  # row by row


def test_predictive_has_each_functions_own_noise(draw):
    x = inputs()[0]
    p = draw.predictive(x)
    assert p.batch_shape == (S, B, OUT)
    torch.testing.assert_close(p.mean, draw(x))
    torch.testing.assert_close(p.stddev, draw.scale.unsqueeze(1).expand(S, B, OUT))


A, SHIFT = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.3, 0.0, -1.0])
C, D = torch.tensor([3.0, -0.2]), torch.tensor([1.0, 5.0])
A2, SHIFT2 = torch.tensor([0.7, 1.5, -2.0]), torch.tensor([-0.1, 0.4, 0.2])
C2, D2 = torch.tensor([-0.5, 4.0]), torch.tensor([0.2, -0.3])


def test_folds_equal_maps_by_hand(draw):
    x = inputs()
    torch.testing.assert_close(draw.fold((A, SHIFT)).each(x), draw.each(A * x + SHIFT), **CLOSE)
    torch.testing.assert_close(draw.fold(None, (C, D)).each(x), C * draw.each(x) + D, **CLOSE)
    both = draw.fold((A, SHIFT), (C, D))
    torch.testing.assert_close(both.each(x), C * draw.each(A * x + SHIFT) + D, **CLOSE)
    torch.testing.assert_close(both.scale, draw.scale * C.abs())
    assert torch.equal(draw.fold((A, SHIFT)).scale, draw.scale)


def test_several_folds_and_projections_compose(draw):
    """The newest input map is applied first, the newest output map last."""
    folded = draw.fold((A, SHIFT), (C, D)).fold((A2, SHIFT2), (C2, D2))
    x = inputs()
    inner = A * (A2 * x + SHIFT2) + SHIFT
    truth = C2 * (C * draw.each(inner) + D) + D2
    torch.testing.assert_close(folded.each(x), truth, **CLOSE)
    torch.testing.assert_close(folded.scale, draw.scale * C.abs() * C2.abs())
    one, two = torch.randn(5, IN, generator=gen(6)), torch.randn(4, 5, generator=gen(7))
    z = inputs(8, 4)
    projected = folded.project(one).project(two)
    torch.testing.assert_close(projected.each(z), folded.each(z @ two @ one), **CLOSE)
    last = projected.fold(None, (C, D))
    torch.testing.assert_close(last.each(z), C * projected.each(z) + D, **CLOSE)


def test_folding_leaves_the_old_draw_alone(draw):
    x = inputs()
    before, scale = draw.each(x), draw.scale.clone()
    draw.fold((A, SHIFT), (C, D)).project(torch.randn(5, IN, generator=gen(6)))
    assert torch.equal(draw.each(x), before)
    assert torch.equal(draw.scale, scale)


def test_folding_after_a_projection(draw):
    """The kinds of draw answer alike: nobody above the waist knows which is which."""
    draw, matrix = draw.fold((A, SHIFT)), torch.randn(5, IN, generator=gen(6))
    a, b = torch.rand(5, generator=gen(7)), torch.rand(5, generator=gen(8))
    z = inputs(8, 5)
    torch.testing.assert_close(draw.project(matrix).fold((a, b)).each(z), draw.each((a * z + b) @ matrix), **CLOSE)


def test_gradients_pass_to_the_inputs_and_not_to_the_weights(draw):
    x = inputs().requires_grad_(True)
    draw.each(x).sum().backward()
    assert x.grad.abs().min() > 0
    assert not draw.scale.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_dense_form(kind):
    draw = build(kind)
    stack = draw.dense(B)
    if kind in ("vmap", "module"):
        assert stack is None
        return
    x = inputs()
    rows = stack(x.reshape(1, S * B, IN)) if kind == "masks" else stack(x)
    torch.testing.assert_close(rows.reshape(S, B, OUT), draw.each(x), **CLOSE)


@pytest.mark.parametrize("kind", ["dense", "masks"])
def test_a_wrong_number_of_batches_is_refused(kind):
    with pytest.raises(UserError, match="3 batches"):
        build(kind).each(torch.zeros(3, B, IN))


def test_masks_of_an_odd_module_are_refused():
    network = StackedNetwork(nn.Linear(2, 2))
    with pytest.raises(UserError, match="masks"):
        make_draw(network, torch.zeros(1, 6), torch.ones(3, 2), Gaussian(), (torch.ones(3, 2),))


@pytest.mark.parametrize(("stored", "size"), [(5, 3), (5, 5), (5, 12), (1, 4)])
def test_spread_is_as_even_as_can_be(stored, size):
    index = spread(stored, size, gen())
    counts = torch.bincount(index, minlength=stored)
    assert index.shape == (size,)
    assert counts.max() - counts.min() <= 1
    assert torch.equal(index, spread(stored, size, gen()))


def test_spread_chooses_at_random():
    chosen = {tuple(spread(10, 3, gen(seed)).tolist()) for seed in range(20)}
    assert len(chosen) > 10


def test_spread_of_nothing_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        spread(5, 0, gen())
