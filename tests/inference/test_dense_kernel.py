"""The kernel of stacked perceptrons against plain torch in float64, and what it does without a compiler."""

import warnings

import pytest
import torch

from dynapilco.core import build
from dynapilco.core.errors import UserError
from dynapilco.inference import fused
from dynapilco.inference.fused import engine, load, plan
from dynapilco.inference.fused.reference import dense_reference, parameter_count
from dynapilco.inference.network import StackedNetwork, mlp

try:
    build.find_compiler()
    MISSING = ""
except build.BuildError as error:
    MISSING = str(error)

needs_kernel = pytest.mark.skipif(bool(MISSING), reason=f"the kernel needs a compiler: {MISSING}")
# Relative to the largest number. Sums of up to 700 terms round to about sqrt(700) * 6e-8 = 2e-6.
TOLERANCE = 1e-5
ACTIVATIONS = ("tanh", "relu", "silu", "identity")
# (S, B, widths): one number, one row, odd widths, whole vectors, many chunks, wider than a tile, no hidden layer
SIZES = [
    (1, 1, (1, 1)),
    (1, 1, (3, 5, 2)),
    (3, 17, (3, 1, 13, 1)),
    (2, 37, (5, 21, 7, 3)),
    (2, 64, (4, 16, 32, 16)),
    (2, 700, (10, 50, 33, 20)),
    (1, 1500, (6, 130, 19, 2)),
    (3, 30, (30, 4)),
]


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch):
    """No choice from outside, and nothing left for the next test."""
    monkeypatch.delenv("DYNAPILCO_ENGINE", raising=False)
    yield
    load._warn.cache_clear()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(sets, rows, widths, own=False, seed=0):
    """Parameters, inputs and an incoming gradient."""
    gen = generator(seed)
    flat = torch.randn(sets, parameter_count(widths), generator=gen) / max(widths) ** 0.5
    x = torch.randn(*((sets, rows) if own else (rows,)), widths[0], generator=gen)
    return flat, x, torch.randn(sets, rows, widths[-1], generator=gen)


def outcome(function, flat, x, df, widths, activation, masks=None):
    """The outputs and both gradients."""
    leaves = [flat.clone().requires_grad_(), x.clone().requires_grad_()]
    f = function(*leaves, widths, activation, masks)
    return [f.detach(), *torch.autograd.grad(f, leaves, df)]


def expected(flat, x, df, widths, activation, masks=None):
    wide = None if masks is None else [None if m is None else m.double() for m in masks]
    return outcome(dense_reference, flat.double(), x.double(), df.double(), widths, activation, wide)


def assert_close(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype is torch.float32 and a.shape == b.shape
        assert (a - b).abs().max() <= TOLERANCE * b.abs().max()


@needs_kernel
def test_the_kernel_is_there():
    assert fused.unavailable_reason() is None


def test_reference_is_the_stacked_network():
    network = StackedNetwork(mlp(4, 2, (7, 5), "silu"))
    flat, x, _ = problem(3, 6, (4, 7, 5, 2))
    assert torch.equal(dense_reference(flat, x, (4, 7, 5, 2), "silu"), network.dense(flat)(x.expand(3, 6, 4)))


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_value_and_gradients_match_torch(size, activation, own):
    sets, rows, widths = size
    flat, x, df = problem(sets, rows, widths, own)
    got = outcome(fused.dense_apply, flat, x, df, widths, activation)
    assert_close(got, expected(flat, x, df, widths, activation))
    value = fused.dense_apply(flat, x, widths, activation)  # the pass that keeps nothing
    assert torch.equal(value, got[0]) and not value.requires_grad


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 37, 700])
def test_masks(rows, activation):
    sets, widths = 2, (5, 21, 50, 7, 3)
    flat, x, df = problem(sets, rows, widths)
    gen = generator(1)
    shared = 2.0 * (torch.rand(rows, 21, generator=gen) < 0.5).float()
    own = torch.rand(sets, rows, 50, generator=gen)
    got = outcome(fused.dense_apply, flat, x, df, widths, activation, (shared, own, None))
    assert_close(got, expected(flat, x, df, widths, activation, (shared, own, None)))


def test_dropout_shares_one_set():
    widths = (4, 19, 2)
    flat, x, _ = problem(1, 90, widths)
    mask = (torch.rand(90, 19, generator=generator(1)) < 0.7).float()
    stack = StackedNetwork(mlp(4, 2, (19,))).dense(flat, (mask,))
    assert torch.allclose(fused.dense_apply(flat, x, widths, "tanh", (mask,)), stack(x[None]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_activations_to_float_accuracy(activation):
    # Identity weights: f = act(x). Also beyond the exponential's range, at zero and below the normal numbers.
    special = torch.tensor([0.0, -0.0, 1e-40, -1e-20, 86.0, -86.0, 1000.0, -1000.0, 3e38, -3e38])
    x = torch.cat([torch.linspace(-20, 20, 4001), special])[:, None]
    got, _, slope = outcome(
        fused.dense_apply, torch.tensor([[1.0, 0.0, 1.0, 0.0]]), x, torch.ones(1, len(x), 1), (1, 1, 1), activation
    )
    act = {"tanh": torch.tanh, "silu": torch.nn.functional.silu}[activation]
    wide = x.double().requires_grad_()
    exact = act(wide)
    # tanh is within 2 units of the last place, silu within 4; results below 1e-36 may round to zero.
    assert torch.allclose(got[0].double(), exact, rtol=5e-7, atol=1e-35)
    assert torch.allclose(slope.double(), torch.autograd.grad(exact.sum(), wide)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_bad_numbers_spread_as_in_torch(bad, activation):
    widths, rows = (3, 5, 4, 2), 21  # 21 rows leave padding in the last vector, which must stay out of it
    parameters = [(0, (0, i)) for i in (1, 16, 21, 40, 46)]  # of all layers
    for which, place in (*parameters, (1, (0, 0)), (2, (0, 0, 0))):
        flat, x, df = case = problem(2, rows, widths)
        df.abs_()  # sums of infinities of one sign stay infinite, and tell of a NaN from the padding
        case[which][place] = bad
        got = outcome(fused.dense_apply, flat, x, df, widths, activation)
        wanted = outcome(dense_reference, flat, x, df, widths, activation)
        for a, b in zip(got, wanted, strict=True):
            assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.isinf(), b.isinf())
            fine = b.isfinite()
            assert torch.allclose(a[fine], b[fine], rtol=1e-4, atol=1e-5)


def test_gradient_of_one_argument_alone():
    widths = (4, 9, 2)
    flat, x, df = problem(3, 11, widths)
    _, dflat, dx = outcome(fused.dense_apply, flat, x, df, widths, "tanh")
    leaf = x.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(fused.dense_apply(flat, leaf, widths, "tanh"), leaf, df)[0], dx)
    leaf = flat.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(fused.dense_apply(leaf, x, widths, "tanh"), leaf, df)[0], dflat)


def test_any_strides():
    widths = (4, 9, 2)
    flat, x, df = problem(3, 11, widths, own=True)
    got = outcome(fused.dense_apply, flat.t().contiguous().t(), x.transpose(0, 2).contiguous().transpose(0, 2),
                  df.transpose(0, 2).contiguous().transpose(0, 2), widths, "tanh")  # fmt: skip
    wanted = outcome(fused.dense_apply, flat, x, df, widths, "tanh")
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_many_graphs_alive_at_once():
    widths = (3, 8, 1)
    flat, x, df = problem(2, 10, widths)
    leaf = flat.clone().requires_grad_()
    outputs = [fused.dense_apply(leaf, scale * x, widths, "tanh") for scale in (1.0, 2.0, 3.0)]
    for scale, f in zip((1.0, 2.0, 3.0), outputs, strict=True):
        for _ in range(2):
            (grad,) = torch.autograd.grad(f, leaf, df, retain_graph=True)
            assert torch.equal(grad, outcome(fused.dense_apply, flat, scale * x, df, widths, "tanh")[1])


def test_changed_parameters_are_noticed():
    flat, x, df = problem(2, 10, (3, 8, 1))
    leaf = flat.requires_grad_()
    f = fused.dense_apply(leaf, x, (3, 8, 1), "tanh")
    with torch.no_grad():
        leaf.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        f.backward(df)


@needs_kernel
def test_second_derivatives_are_refused():
    flat, x, _ = problem(2, 10, (3, 8, 1))
    leaf = flat.requires_grad_()
    for loss in (lambda f: f.sum(), lambda f: f.square().sum()):
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad(loss(fused.dense_apply(leaf, x, (3, 8, 1), "tanh")), leaf, create_graph=True)


def test_forward_and_backward_reuse_their_buffers():
    widths = (4, 9, 2)
    flat, x, df = problem(3, 11, widths)
    wanted = outcome(fused.dense_apply, flat, x, df, widths, "tanh")
    f, saved = fused.forward(flat, x, widths, "tanh")
    dflat = fused.backward(saved, df)
    assert torch.equal(f, wanted[0]) and torch.equal(dflat, wanted[1])
    again, same = fused.forward(2 * flat, x, widths, "tanh", saved=saved)
    assert same is saved and again.data_ptr() == f.data_ptr()
    assert fused.backward(saved, df).data_ptr() == dflat.data_ptr()
    assert torch.equal(dflat, outcome(fused.dense_apply, 2 * flat, x, df, widths, "tanh")[1])
    other, fresh = fused.forward(flat, x[:5], widths, "tanh", saved=saved)
    assert fresh is not saved and other.shape == (3, 5, 2)
    with pytest.raises(UserError, match="df is"):
        fused.backward(saved, df[:, :3])


@needs_kernel
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_threads_change_nothing(own):
    sets, rows, widths = 9, 400, (10, 50, 50, 8)
    flat, x, df = problem(sets, rows, widths, own)
    outcomes = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outcomes.append(outcome(fused.dense_apply, flat, x, df, widths, "tanh"))
        sizes = [
            plan.Plan(load.find_library(), sets, rows, widths, "tanh", own, (0, 0), t)._scratch_sizes[2]
            for t in (1, 2, 3)
        ]
    finally:
        torch.set_num_threads(1)
    assert sizes[2] > sizes[1] > sizes[0]  # the work is worth the threads
    for other in outcomes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outcomes[0], other, strict=True))


@pytest.mark.parametrize(("sets", "rows"), [(0, 4), (3, 0)])
def test_nothing_to_compute(sets, rows):
    flat, x, df = problem(sets, rows, (3, 5, 2))
    f, dflat, dx = outcome(fused.dense_apply, flat, x, df, (3, 5, 2), "tanh")
    assert f.shape == (sets, rows, 2) and not dflat.any() and not dx.any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(flat=torch.zeros(2, 9)), r"flat has shape \(2, 9\): expected \(S, 32\)"),
        (dict(flat=torch.zeros(32)), "flat has shape"),
        (dict(flat=torch.zeros(2, 32, dtype=torch.float64)), r"flat is torch\.float64"),
        (dict(x=torch.zeros(4, 2)), r"x has shape \(4, 2\)"),
        (dict(x=torch.zeros(3, 4, 3)), r"x has shape \(3, 4, 3\)"),
        (dict(x=torch.zeros(4, 3, dtype=torch.int64)), r"x is torch\.int64"),
        (dict(widths=(3,)), r"widths=\(3,\)"),
        (dict(widths=(3, 0, 2)), "widths="),
        (dict(activation="gelu"), "activation='gelu'"),
        (dict(masks=()), "masks has 0 entries: expected 1"),
        (dict(masks=(torch.ones(3, 5),)), r"masks\[0\] has shape \(3, 5\)"),
        (dict(masks=(torch.ones(4, 5, dtype=torch.bool),)), r"masks\[0\] is torch\.bool"),
        (dict(masks=(torch.ones(4, 5, requires_grad=True),)), r"masks\[0\] requires a gradient"),
    ],
)
def test_bad_arguments_are_refused(change, said):
    good = dict(flat=torch.zeros(2, 32), x=torch.zeros(4, 3), widths=(3, 5, 2), activation="tanh")
    for function in (fused.dense_apply, fused.forward):
        with pytest.raises(UserError, match=said):
            function(**{**good, **change})


def test_supports():
    flat, x = torch.zeros(2, 9), torch.zeros(3, 2)
    assert fused.supports(flat, x, None)
    assert not fused.supports(flat.double(), x)
    assert not fused.supports(flat, x.to("meta"))
    assert not fused.supports(flat, x, activation="gelu")
    seen = []
    torch.func.vmap(lambda row: (seen.append(fused.supports(row)), row.sum())[1])(flat)
    torch.func.jvp(lambda v: (seen.append(fused.supports(v)), v.sum())[1], (flat,), (flat,))
    with torch.autograd.forward_ad.dual_level():
        seen.append(fused.supports(torch.autograd.forward_ad.make_dual(flat, flat)))
    assert seen == [False, False, False]


def every_way(flat, x, df, widths):
    """The outcomes of the two faces."""
    f, saved = fused.forward(flat, x, widths, "tanh")
    return [f.clone(), fused.backward(saved, df), *outcome(fused.dense_apply, flat, x, df, widths, "tanh")]


def test_without_a_compiler_torch_does_it_with_one_warning(tmp_path, monkeypatch):
    case = (*problem(2, 9, (3, 5, 2)), (3, 5, 2))
    wanted = every_way(*case)
    load._load.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("DYNAPILCO_CACHE_DIR", str(tmp_path / "cache"))
    try:
        assert not fused.available() and "no C++ compiler" in (fused.unavailable_reason() or "")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            got = every_way(*case)
        assert len(seen) == 1 and "no C++ compiler" in str(seen[0].message)
        assert_close(got, wanted)
    finally:
        load._load.cache_clear()


@needs_kernel
def test_a_kernel_that_is_wrong_is_not_used(monkeypatch):
    load._load.cache_clear()
    monkeypatch.setattr(load, "dense_reference", lambda *a: 1.001 * dense_reference(*a))
    try:
        assert "disagrees with torch" in (fused.unavailable_reason() or "")
    finally:
        load._load.cache_clear()


def test_the_environment_turns_it_off_silently(monkeypatch):
    case = (*problem(2, 9, (3, 5, 2)), (3, 5, 2))
    wanted = every_way(*case)
    monkeypatch.setenv("DYNAPILCO_ENGINE", "torch")
    monkeypatch.setattr(engine, "find_plan", lambda library, *a: plan.find_plan(library, *a) and pytest.fail("used"))
    assert "DYNAPILCO_ENGINE" in (fused.unavailable_reason() or "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(every_way(*case), wanted)
    monkeypatch.setenv("DYNAPILCO_ENGINE", "fast")
    with pytest.raises(UserError, match="DYNAPILCO_ENGINE='fast'"):
        every_way(*case)
