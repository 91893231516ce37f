"""Gradient estimators of variational inference: each row's outputs have the distribution that q gives them."""

import pytest
import torch
from torch import nn

from dynapilco.inference import BayesianModel, Gaussian, NormalPrior, StackedNetwork, Target, mlp
from dynapilco.inference.estimators import ESTIMATORS, dense, modules, row_noise
from dynapilco.inference.estimators.uses import POSITIONS, ROWS, layer_uses
from dynapilco.inference.posteriors import Normal
from tests.inference.harness import gen, rand

DRAWS = 10_000


class Convolution(nn.Module):
    """A weight shared by positions: their outputs are correlated."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(1, 2, 2), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x.unsqueeze(1))).flatten(1))


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.each, self.head = nn.Linear(1, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.each(x.unsqueeze(-1))).mean(1))


class Twice(nn.Module):
    """One layer called twice, another tied to it by its weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(self.norm(self.b(torch.tanh(self.a(self.a(x))))))


class SharedBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(2, 2)
        self.b.bias = self.a.bias

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


NETS = {
    "dense": lambda: mlp(4, 2, (3,)), "convolution": Convolution, "sequence": Sequence, "twice": Twice,
    "bias": SharedBias, "no bias": lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2, bias=False)),
}  # fmt: skip


def setup(net, rows=2, members=1, engine="auto", exclude=()):
    net = net.double()
    model = BayesianModel(StackedNetwork(net, engine, exclude), Gaussian(fixed=1.0), NormalPrior(), 2)
    batch = Target(model, rand(rows, 4, seed=5), rand(rows, 2, seed=6)).all
    params, points = model.initial(members, gen(3))
    scale = 0.2 + 0.3 * torch.rand(params.shape[1], generator=gen(4)).double()
    return batch, {**Normal().init(params, scale, gen()), "points": points}


def outputs(estimator, batch, v, draws=DRAWS, seed=0):
    """(S, K, B, 2)."""
    return ESTIMATORS[estimator](Normal(), v, batch, draws, gen(seed))[0].unflatten(0, (-1, draws)).detach()


def check_rows(estimator, batch, v):
    """First and second moments, across the outputs of a row, are those of plain sampling within 5 standard errors."""
    plain, tried = outputs("reparameterised", batch, v, seed=1)[0], outputs(estimator, batch, v, seed=2)[0]
    for row in range(plain.shape[1]):
        a, b = plain[:, row], tried[:, row]
        products = [torch.stack([t[:, 0], t[:, 1], t[:, 0] ** 2, t[:, 1] ** 2, t[:, 0] * t[:, 1]], 1) for t in (a, b)]
        difference = products[0].mean(0) - products[1].mean(0)
        error = (sum(p.var(0) for p in products) / (DRAWS / 2)).sqrt()  # mirrored pairs: half as many draws at least
        assert (difference.abs() < 5 * error).all()


@pytest.mark.parametrize("estimator", ["local", "flipout"])
@pytest.mark.parametrize("name", list(NETS))
def test_a_row_has_the_distribution_of_plain_sampling(estimator, name):
    check_rows(estimator, *setup(NETS[name]()))


@pytest.mark.parametrize("estimator", ["local", "flipout"])
def test_excluded_weights_have_no_spread(estimator):
    batch, v = setup(Convolution(), exclude=["conv.*"])
    check_rows(estimator, batch, v)
    batch, v = setup(mlp(4, 2, (3,)), exclude=["0.weight"])
    check_rows(estimator, batch, v)


@pytest.mark.parametrize("estimator", ["local", "flipout"])
def test_rows_differ_in_their_weights(estimator):
    batch, v = setup(mlp(4, 2, ()))
    batch = Target(batch.model, batch.x[:1].expand(2, 4), batch.y).all  # the same row twice
    plain, tried = outputs("reparameterised", batch, v)[0], outputs(estimator, batch, v)[0]
    assert torch.equal(plain[:, 0], plain[:, 1])
    between = torch.corrcoef((tried - tried.mean(0))[:, :, 0].T)[0, 1]
    assert between.abs() < 4 / (DRAWS / 2) ** 0.5


def broken(monkeypatch, where, change):
    original = where.random_signs if where is dense else where.normal_noise
    monkeypatch.setattr(where, original.__name__, lambda *a, **k: change(original(*a, **k)))


def test_the_check_notices_lost_variance_and_a_wrong_sign_law(monkeypatch):
    broken(monkeypatch, modules, lambda noise: 0.9 * noise)
    with pytest.raises(AssertionError):
        check_rows("local", *setup(Convolution()))
    broken(monkeypatch, dense, lambda signs: signs * 0.95)
    with pytest.raises(AssertionError):
        check_rows("flipout", *setup(mlp(4, 2, (3,))))


def test_local_noise_at_every_position_would_be_another_distribution(monkeypatch):
    """Why a sequence gets flipout: treated as rows, the positions' noise would average out."""
    net = Sequence()
    nn.init.constant_(net.head.weight, 0.3)  # no unit cancels another
    batch, v = setup(net)
    v["rho"][:, :6], v["rho"][:, 6:] = 1.0, -40.0  # noise that shows; the head is known

    def as_rows(network, flat, x):
        uses = layer_uses(network, flat, x)
        wrong = {name: type(use)(ROWS, use.bias, use.into, (4, use.out[-1])) for name, use in uses.items()}
        return {name: wrong[name] if name == "each.weight" else use for name, use in uses.items()}

    monkeypatch.setattr(modules, "layer_uses", as_rows)
    with pytest.raises(AssertionError):
        check_rows("local", batch, v)


@pytest.mark.parametrize("estimator", list(ESTIMATORS))
@pytest.mark.parametrize("engine", ["dense", "vmap", "loop"])
@pytest.mark.parametrize("own_data", [False, True])
def test_engines_members_and_data_of_their_own(estimator, engine, own_data):
    """Without spread, all estimators on all engines are the network at its location."""
    batch, v = setup(mlp(4, 2, (3,)), rows=5, members=4, engine=engine)
    if own_data:
        x = torch.stack([batch.x, batch.x + 1])
        batch = Target(batch.model, x, batch.y.expand(2, 5, 2)).all
    v["rho"] = torch.full_like(v["rho"], -40.0)
    f = outputs(estimator, batch, v, draws=3)
    expected = batch.outputs(v["params"], v["points"]).unsqueeze(1).expand(4, 3, 5, 2)
    torch.testing.assert_close(f, expected, atol=1e-12, rtol=1e-12)


def test_how_weights_are_used():
    def uses(net):
        network = StackedNetwork(net)
        return {
            k: (u.kind, u.bias) for k, u in layer_uses(network, network.own_parameters(), torch.zeros(2, 4)).items()
        }

    assert uses(Convolution()) == {"conv.weight": (POSITIONS, "conv.bias"), "head.weight": (ROWS, "head.bias")}
    assert uses(Sequence()) == {"each.weight": (POSITIONS, "each.bias"), "head.weight": (ROWS, "head.bias")}
    assert uses(Twice()) == {"head.weight": (ROWS, "head.bias")}
    assert uses(SharedBias()) == {"a.weight": (ROWS, None), "b.weight": (ROWS, None)}


def test_attention_and_recurrent_weights_are_sampled_plainly():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(1, 4)
            self.attend = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.norm, self.head = nn.GroupNorm(1, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.norm(self.attend(self.up(x.unsqueeze(-1))).mean(1)))

    network = StackedNetwork(Attention())
    found = layer_uses(network, network.own_parameters(), torch.zeros(2, 4))
    assert set(found) == {"up.weight", "attend.linear1.weight", "attend.linear2.weight", "head.weight"}
    network = StackedNetwork(nn.GRUCell(4, 2))
    assert layer_uses(network, network.own_parameters(), torch.zeros(2, 4)) == {}


@pytest.mark.parametrize("estimator", ["local", "flipout"])
def test_noise_is_mirrored_in_pairs(estimator):
    """A linear map of the noise: the two samples of a pair lie on both sides of the mean."""
    for net, exact in ((mlp(4, 2, ()), True), (mlp(4, 2, (3,)), False)):
        batch, v = setup(net, engine="dense" if exact else "vmap")
        f = outputs(estimator, batch, v, draws=6)[0]
        centre = batch.outputs(v["params"], v["points"])
        mirrored = torch.allclose(f[:3] + f[3:], 2 * centre, atol=1e-12)
        assert mirrored == exact


def test_names():
    assert ESTIMATORS["local"] is row_noise.local and ESTIMATORS["flipout"] is row_noise.flipout
