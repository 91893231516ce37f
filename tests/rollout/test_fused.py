"""The fused rollout against plain autograd in float64, and how its compilation fails."""

import itertools
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from dynapilco.core import build
from dynapilco.inference.stack import DenseStack
from dynapilco.rollout.fused import engine

try:
    build.find_compiler()
    MISSING = ""
except build.BuildError as error:
    MISSING = str(error)

needs_kernel = pytest.mark.skipif(bool(MISSING), reason=f"the fused rollout needs a compiler: {MISSING}")
TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def one_thread():
    """The float64 reference is tiny: threads would only wait for one another on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Case:
    """The sizes of a segment; everything random is drawn from ``seed``."""

    R: int = 1
    S: int = 3
    P: int = 5
    L: int = 10
    D: int = 4
    A: int = 1
    M: int = 1
    O: int = 2  # noqa: E741
    shared: bool = False
    masked: bool = False
    noises: tuple[bool, bool, bool] = (True, True, True)
    policy: tuple[int, ...] = (7, 9)
    model: tuple[int, ...] = (33, 48)
    seed: int = 0
    carried: bool = False
    bounded: bool = False

    def __str__(self):
        hidden = f"policy{self.policy}-model{self.model}".replace(" ", "")
        kind = "masked" if self.masked else "shared" if self.shared else "draws"
        noises = "".join("aop"[i] for i in range(3) if self.noises[i]) or "none"
        kind += "-carry" * self.carried + "-bounds" * self.bounded
        return f"R{self.R}S{self.S}P{self.P}L{self.L}D{self.D}A{self.A}M{self.M}-{kind}-{noises}-{hidden}"


@dataclass
class Setup:
    plan: engine.SegmentPlan
    policy: DenseStack
    start: Tensor
    noises: list[Tensor | None]  # action, observation, process
    grads: tuple[Tensor, Tensor]
    length: int


def build_stack(groups, widths, gen, masks=None):
    weights = [torch.randn(groups, i, j, generator=gen) / i**0.5 for i, j in itertools.pairwise(widths)]
    biases = [0.3 * torch.randn(groups, j, generator=gen) for j in widths[1:]]
    return DenseStack(tuple(weights), tuple(biases), tuple(masks or [None] * (len(widths) - 2)))


def build_setup(c: Case) -> Setup:
    gen = torch.Generator().manual_seed(c.seed)
    angles = tuple(range(c.D - c.A, c.D))
    groups = 1 if c.shared or c.masked else c.S
    masks = None
    if c.masked:
        masks = [(torch.rand(c.S * c.P, w, generator=gen) < 0.8).float() / 0.8 for w in c.model]
        masks[1:2] = [None] * len(masks[1:2])  # one layer without, to test both
    model = build_stack(groups, (c.D + 2 * c.A + c.M, *c.model, c.O), gen, masks)
    policy = build_stack(c.R, (c.D + 2 * c.A, *c.policy, c.M), gen)
    transition = 0.9 * torch.eye(c.D) + 0.05 * torch.randn(c.D, c.D, generator=gen)
    effect = 0.3 * torch.randn(c.O, c.D, generator=gen)
    centre, half = 0.1 * torch.randn(c.M, generator=gen), 0.5 + torch.rand(c.M, generator=gen)
    carry = 0.4 * torch.randn(c.M, c.D, generator=torch.Generator().manual_seed(c.seed)) if c.carried else None
    bounds = torch.tensor([-0.8, 0.8])[:, None].repeat(1, c.D) if c.bounded else None
    if bounds is not None:
        bounds[1, 0] = torch.inf  # one side only
    plan = engine.SegmentPlan(model, angles, transition, effect, centre, half, c.S, carry=carry, bounds=bounds)
    rows = (c.R, c.S, c.P)
    sizes = (c.M, c.D, c.O)
    noises = [
        0.2 * torch.randn(c.L, *rows, n, generator=gen) if on else None for n, on in zip(sizes, c.noises, strict=True)
    ]
    grads = (torch.randn(c.L, *rows, c.D, generator=gen), torch.randn(c.L, *rows, c.M, generator=gen))
    return Setup(plan, policy, torch.randn(*rows, c.D, generator=gen), noises, grads, c.L)


def features(x, angles):
    return torch.cat([x, x[..., angles].sin(), x[..., angles].cos()], -1)


def reference(s: Setup, leaves):
    """Plain autograd in the dtype of the leaves (start, weights, biases)."""
    dtype = leaves[0].dtype
    depth = len(s.policy.weights)
    policy = DenseStack(tuple(leaves[1 : 1 + depth]), tuple(leaves[1 + depth :]), (None,) * (depth - 1))
    model = DenseStack(
        tuple(w.to(dtype) for w in s.plan.model.weights),
        tuple(b.to(dtype) for b in s.plan.model.biases),
        tuple(None if m is None else m.to(dtype) for m in s.plan.model.masks),
    )
    x = leaves[0]
    r, draws, particles, _ = x.shape
    angles, states, actions = list(s.plan.angles), [], []
    an, on, pn = ([None] * s.length if n is None else n.to(dtype) for n in s.noises)
    for t in range(s.length):
        xo = x if on[t] is None else x + on[t]
        a = policy(features(xo, angles).flatten(1, 2)).view(r, draws, particles, -1)
        a = a if an[t] is None else a + an[t]
        u = s.plan.centre.to(dtype) + s.plan.half.to(dtype) * a.tanh()
        zm = torch.cat([features(x, angles), u], -1)
        if model.groups == 1:
            y = torch.stack([model(one.flatten(0, 1)[None])[0].view(draws, particles, -1) for one in zm])
        else:
            y = torch.stack([model(one) for one in zm])
        y = y if pn[t] is None else y + pn[t]
        x = x @ s.plan.transition.to(dtype) + y @ s.plan.effect.to(dtype)
        x = x if s.plan.carry is None else x + u @ s.plan.carry.to(dtype)
        x = x if s.plan.bounds is None else x.clamp(*s.plan.bounds.to(dtype))
        states.append(x)
        actions.append(u)
    return torch.stack(states), torch.stack(actions)


def make_leaves(s: Setup, dtype=torch.float32):
    tensors = (s.start, *s.policy.weights, *s.policy.biases)
    return [x.detach().to(dtype).clone().requires_grad_() for x in tensors]


def run_fused(s: Setup, leaves, steps=None):
    """One segment, or chained segments of ``steps`` steps each."""
    depth = len(s.policy.weights)
    policy = DenseStack(tuple(leaves[1 : 1 + depth]), tuple(leaves[1 + depth :]), (None,) * (depth - 1))
    steps = steps or s.length
    x, states, actions = leaves[0], [], []
    for t in range(0, s.length, steps):
        noises = [None if n is None else n[t : t + steps] for n in s.noises]
        xs, us = engine.fused_segment(s.plan, policy, x, *noises, length=steps)
        x = xs[-1]
        states.append(xs)
        actions.append(us)
    return torch.cat(states), torch.cat(actions)


def outcome(s: Setup, run, dtype=torch.float32, **options):
    """[states, actions, every gradient]"""
    leaves = make_leaves(s, dtype)
    states, actions = run(s, leaves, **options)
    grads = torch.autograd.grad((states, actions), leaves, [g.to(dtype) for g in s.grads])
    return [states.detach(), actions.detach(), *grads]


def assert_close(got, wanted, tolerance=TOLERANCE):
    names = ["states", "actions", "start", *(f"policy tensor {i}" for i in range(len(got) - 3))]
    for name, x, y in zip(names, got, wanted, strict=True):
        error = ((x.double() - y.double()).abs().max() / y.double().abs().max().clamp_min(1e-12)).item()
        assert error < tolerance, f"{name}: relative error {error:.1e}"


NONE, ALL = (False, False, False), (True, True, True)
CASES = [
    *(Case(R=r, P=p) for r in (1, 3) for p in (1, 5, 8, 10, 16, 40)),
    *(Case(R=r, P=p, shared=True) for r in (1, 3) for p in (1, 5, 16, 40)),
    *(Case(R=r, P=p, masked=True) for r in (1, 3) for p in (1, 5, 16, 40)),
    *(Case(noises=n) for n in itertools.product((False, True), repeat=3)),
    *(Case(noises=n, masked=True) for n in (NONE, ALL)),
    *(Case(policy=h) for h in ((), (7,), (33,), (48, 48), (200,))),
    *(Case(model=h) for h in ((), (7,), (33,), (48,), (200,), (200, 200), (64, 33, 7))),
    *(Case(model=h, masked=True, P=10) for h in ((7,), (200, 48), (33, 48, 7))),
    Case(policy=(), model=(), noises=NONE),
    Case(D=2, A=1, O=1, P=7),
    Case(D=6, A=2, M=2, O=4, P=10, R=3, L=20),
    Case(D=6, A=2, M=2, O=4, noises=NONE, policy=(48, 33)),
    Case(D=3, A=0, M=1, O=3),
    Case(D=3, A=3, M=1, O=3),
    Case(D=17, A=4, M=6, O=17, policy=(40,), model=(50,)),
    Case(D=30, A=2, M=20, O=30, policy=(), model=(50,)),
    Case(R=7, P=9, L=3),
    Case(P=129, L=4, R=2),
    Case(R=2, S=10, P=3, L=12, model=(200,)),
    *(Case(carried=True, noises=n, P=p, R=r) for n, p, r in ((NONE, 5, 1), (ALL, 16, 3), (ALL, 40, 2))),
    Case(carried=True, D=6, A=2, M=3, O=4, P=10, R=3, L=20),
    Case(carried=True, masked=True, D=9, A=1, M=2, O=2, P=5),
    Case(carried=True, D=17, A=4, M=20, O=17, model=(50,)),
    *(Case(bounded=True, noises=n, P=p, R=r) for n, p, r in ((NONE, 5, 1), (ALL, 16, 3), (ALL, 40, 2))),
    Case(bounded=True, carried=True, masked=True, D=17, A=4, M=2, O=17, model=(50,)),
]


@needs_kernel
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_autograd_in_float64(case):
    s = build_setup(case)
    assert engine.available(), engine.unavailable_reason()
    assert engine.supports(s.plan.model, s.policy)
    assert_close(outcome(s, run_fused), outcome(s, reference, torch.float64))


@needs_kernel
@pytest.mark.parametrize("case", [Case(L=6), Case(L=6, R=3, P=16, noises=NONE), Case(L=6, masked=True, P=40)], ids=str)
def test_chained_segments_equal_one(case):
    s = build_setup(case)
    whole = outcome(s, run_fused)
    for steps in (1, 2):
        parts = outcome(s, run_fused, steps=steps)
        assert all(torch.equal(x, y) for x, y in zip(parts[:2], whole[:2], strict=True))
        assert_close(parts, whole, 5e-6)  # the gradients are summed in another order


@needs_kernel
def test_bitwise_deterministic_and_repeatable():
    s = build_setup(Case(R=2, P=16, L=20))
    first = outcome(s, run_fused)
    for again in (outcome(s, run_fused), outcome(s, run_fused)):
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


@needs_kernel
def test_backward_twice_with_other_segments_alive():
    """Workspaces are not shared by live segments, and a retained graph gives the same gradient again."""
    one, two = build_setup(Case(seed=1)), build_setup(Case(seed=2))
    one.plan = two.plan
    leaves, others = make_leaves(one), make_leaves(two)
    first, second = run_fused(one, leaves), run_fused(two, others)
    a = torch.autograd.grad(first, leaves, one.grads, retain_graph=True)
    torch.autograd.grad(second, others, two.grads)
    run_fused(two, make_leaves(two))
    b = torch.autograd.grad(first, leaves, one.grads)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert_close([*first, *b], outcome(one, reference, torch.float64))


@needs_kernel
def test_only_one_output_used_and_no_grad():
    s = build_setup(Case())
    leaves, exact = make_leaves(s), make_leaves(s, torch.float64)
    got = torch.autograd.grad(run_fused(s, leaves)[0].sum(), leaves)
    wanted = torch.autograd.grad(reference(s, exact)[0].sum(), exact)
    assert_close([x.detach() for x in run_fused(s, leaves)] + list(got), [*reference(s, exact), *wanted])
    with torch.no_grad():
        plain = run_fused(s, leaves)
    assert not plain[0].requires_grad
    assert all(torch.equal(x, y) for x, y in zip(plain, run_fused(s, leaves), strict=True))
    start_only = leaves[0].detach().requires_grad_()
    frozen = [x.detach() for x in leaves[1:]]
    (g,) = torch.autograd.grad(run_fused(s, [start_only, *frozen])[0].sum(), start_only)
    assert torch.equal(g, got[0])


@needs_kernel
def test_finite_differences():
    s = build_setup(Case(P=2, S=2, L=5, policy=(4,), model=(5,)))
    got = outcome(s, run_fused)[2:]

    def value(leaves):
        states, actions = reference(s, leaves)
        return ((states * s.grads[0]).sum() + (actions * s.grads[1]).sum()).item()

    base = [x.detach() for x in make_leaves(s, torch.float64)]
    gen = torch.Generator().manual_seed(3)
    for _ in range(3):
        direction = [torch.randn(x.shape, generator=gen, dtype=torch.float64) for x in base]
        pairs = list(zip(base, direction, strict=True))
        ends = [value([x + step * d for x, d in pairs]) for step in (1e-5, -1e-5)]
        slope = sum((g.double() * d).sum().item() for g, d in zip(got, direction, strict=True))
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-4)


@needs_kernel
@pytest.mark.parametrize("case", [Case(P=10), Case(R=3, P=5), Case(P=16, masked=True)], ids=str)
def test_nan_stays_in_its_particle_and_reaches_the_gradient(case):
    s = build_setup(case)
    clean = outcome(s, run_fused)
    s.start[0, 1, 2, 0] = float("nan")
    got = outcome(s, run_fused)
    nan = got[0].isnan()
    assert nan[:, 0, 1, 2].all()
    nan[:, 0, 1, 2] = False
    assert not nan.any()
    untouched = torch.ones(s.start.shape[:3], dtype=torch.bool)
    untouched[0, 1, 2] = False
    for x, y in zip(got[:2], clean[:2], strict=True):
        assert torch.equal(x[:, untouched], y[:, untouched])
    assert torch.equal(got[2][untouched], clean[2][untouched])
    assert all(g[0].isnan().any() for g in got[3:])
    assert all(g[1:].isfinite().all() for g in got[3:])


@needs_kernel
@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), 1e38])
def test_infinite_and_huge_values_behave_as_in_torch(bad):
    s = build_setup(Case(P=3, L=3, D=4, A=1, noises=NONE))
    eye = torch.eye(4)
    s.plan = engine.SegmentPlan(
        s.plan.model, s.plan.angles, eye, s.plan.effect, s.plan.centre, s.plan.half, s.plan.draws
    )
    s.start[0, 0, 0, 0] = bad
    leaves = make_leaves(s)
    states, actions = run_fused(s, leaves)
    wanted, wanted_actions = reference(s, make_leaves(s))
    assert torch.equal(states.isnan(), wanted.isnan())
    assert torch.equal(actions.isnan(), wanted_actions.isnan())
    torch.testing.assert_close(actions, wanted_actions, rtol=1e-4, atol=1e-4, equal_nan=True)


@needs_kernel
def test_elementary_functions_through_a_linear_segment():
    """tanh by the action of a linear policy, sine and cosine by a model that copies its features."""
    special = torch.tensor([0.0, -0.0, 1e30])
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.logspace(-30, 4, 999), special])
    x = torch.cat([x, -x]).view(1, 1, -1, 1)
    copy = torch.zeros(1, 4, 2)
    copy[0, 1, 0] = copy[0, 2, 1] = 1.0
    model = DenseStack((copy,), (torch.zeros(1, 2),), ())
    policy = DenseStack((torch.tensor([[[1.0], [0.0], [0.0]]]),), (torch.zeros(1, 1),), ())
    one = torch.ones(1)
    outputs = []
    for column in ([[1.0], [0.0]], [[0.0], [1.0]]):
        plan = engine.SegmentPlan(model, (0,), torch.zeros(1, 1), torch.tensor(column), 0 * one, one, 1)
        outputs.append(engine.fused_segment(plan, policy, x, length=1))
    exact = x.double()
    usual = exact.abs() < 2e4
    assert (outputs[0][0][0].double() - exact.sin())[usual].abs().max() < 1e-7
    assert (outputs[1][0][0].double() - exact.cos())[usual].abs().max() < 1e-7
    assert (outputs[0][0][0].double() - exact.sin()).abs().max() < 1e-6
    tanh = outputs[0][1][0].double()
    assert (tanh - exact.tanh()).abs().max() < 1.5e-7
    assert tanh.abs().max() == 1.0
    small = exact.abs() < 0.1
    scale = exact.tanh().abs().clamp_min(1e-35)
    assert ((tanh - exact.tanh()).abs() / scale)[small & (exact != 0)].max() < 5e-7


@needs_kernel
def test_other_torch_defaults_do_not_matter():
    engine._load.cache_clear()
    s = build_setup(Case(L=3))
    wanted = outcome(s, reference, torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert engine.available(), engine.unavailable_reason()
        assert_close(outcome(s, run_fused), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


@needs_kernel
def test_denormals_survive_loading():
    assert engine.available()
    outcome(build_setup(Case(L=2)), run_fused)
    assert (torch.tensor([1e-40]) * torch.tensor([1.0])).item() > 0
    assert (np.float32(1e-40) * np.float32(1.0)) > 0
    assert (np.full(64, 1e-40, np.float32) * np.float32(1.0) > 0).all()


@needs_kernel
def test_wrong_shapes_are_refused():
    s = build_setup(Case())
    leaves = make_leaves(s)
    with pytest.raises(ValueError, match="start"):
        run_fused(s, [leaves[0][..., :-1], *leaves[1:]])
    with pytest.raises(ValueError, match="start"):
        run_fused(s, [leaves[0].double(), *leaves[1:]])
    s.noises[0] = torch.zeros(1)
    with pytest.raises(ValueError, match="action_noise"):
        run_fused(s, leaves)
    with pytest.raises(ValueError, match="groups"):
        engine.SegmentPlan(s.plan.model, (3,), torch.eye(4), s.plan.effect, s.plan.centre, s.plan.half, 7)


@needs_kernel
def test_tensors_that_are_not_contiguous():
    s = build_setup(Case(R=2))
    wanted = outcome(s, run_fused)
    s.start = s.start.transpose(0, 3).contiguous().transpose(0, 3)
    s.noises = [n.transpose(0, 2).contiguous().transpose(0, 2) for n in s.noises]
    s.grads = tuple(g.transpose(0, 3).contiguous().transpose(0, 3) for g in s.grads)
    assert all(torch.equal(x, y) for x, y in zip(outcome(s, run_fused), wanted, strict=True))


def test_supports():
    gen = torch.Generator().manual_seed(0)
    model, policy = build_stack(3, (7, 9, 2), gen), build_stack(1, (6, 9, 1), gen)
    assert engine.supports(model, policy)
    assert engine.supports(DenseStack(model.weights, model.biases, model.masks, "silu"), policy)
    assert not engine.supports(model, DenseStack(policy.weights, policy.biases, policy.masks, "silu"))
    relu = DenseStack(model.weights, model.biases, model.masks, "relu")
    assert not engine.supports(relu, policy)
    masked = DenseStack(policy.weights, policy.biases, (torch.ones(15, 9),))
    assert not engine.supports(model, masked)
    double = DenseStack(tuple(w.double() for w in model.weights), model.biases, model.masks)
    assert not engine.supports(double, policy)


def test_no_compiler_leaves_a_reason(tmp_path, monkeypatch):
    engine._load.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("DYNAPILCO_ENGINE", raising=False)
    monkeypatch.setenv("DYNAPILCO_CACHE_DIR", str(tmp_path / "cache"))
    try:
        assert not engine.available()
        assert "no C++ compiler" in (engine.unavailable_reason() or "")
    finally:
        engine._load.cache_clear()


def test_other_failures_leave_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPILCO_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("DYNAPILCO_ENGINE", raising=False)
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot compile this >&2\nexit 1\n")
    broken.chmod(0o755)
    garbage = tmp_path / "garbage"
    garbage.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\nfor last; do :; done\necho no library > "$last"\n')
    garbage.chmod(0o755)
    try:
        for command, said in ((broken, "cannot compile this"), (garbage, ""), ("/none/g++", "not found")):
            engine._load.cache_clear()
            monkeypatch.setenv("CXX", str(command))
            assert not engine.available()
            assert said in (engine.unavailable_reason() or "")
        monkeypatch.setenv("DYNAPILCO_ENGINE", "torch")
        assert "DYNAPILCO_ENGINE" in (engine.unavailable_reason() or "")
    finally:
        engine._load.cache_clear()


@needs_kernel
def test_fresh_cache_builds_once_in_several_processes(tmp_path):
    code = (
        "from dynapilco.core import build as core; from dynapilco.rollout.fused import build; "
        "core.FLAGS = ('-O0', '-std=c++17', '-shared', '-fPIC'); print(build.build())"  # quick to compile
    )
    env = {**os.environ, "DYNAPILCO_CACHE_DIR": str(tmp_path / "fresh")}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    paths = {run.communicate(timeout=120)[0].strip() for run in runs}
    assert len(paths) == 1
    assert [str(f) for f in (tmp_path / "fresh").iterdir()] == list(paths)
    stamp = os.stat(next(iter(paths))).st_mtime_ns
    again = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert again.stdout.strip() in paths
    assert os.stat(next(iter(paths))).st_mtime_ns == stamp
