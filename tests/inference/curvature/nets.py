"""Small networks of every kind that curvature has to treat, in float64."""

import torch
from torch import nn

from dynapilco.inference import FanInNormal, Gaussian, StackedNetwork, Target, mlp
from dynapilco.inference.target import BayesianModel
from tests.inference.harness import gen, rand


class Twice(nn.Module):
    """A hidden layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.head = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(h)))))


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.up.weight, self.head = self.down.weight, nn.Linear(3, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.up(torch.tanh(self.down(x)))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def convolution():
    body = nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 2)
    return nn.Sequential(*body)


KINDS = {
    "mlp": (lambda: mlp(3, 2, (6, 5)), (3,)),
    "conv": (convolution, (2, 4)),
    "twice": (Twice, (3,)),
    "tied": (Tied, (3,)),
    "attention": (Attention, (5, 4)),
    "attention_eval": (lambda: Attention().eval(), (5, 4)),
    "lstm": (Recurrent, (4, 3)),
}


def network(kind, engine="auto", exclude=(), seed=0):
    """The network and an input shape."""
    make, shape = KINDS[kind]
    net = StackedNetwork(make().double(), engine, exclude)
    flat = 0.6 * rand(1, net.full.total, seed=seed)
    return net, flat, shape


def problem(kind, rows=7, likelihood=None, prior=None, temperature=1.0, weights=None, **options):
    """Model, target, params (1, n) and points (1, k + m)."""
    net, flat, shape = network(kind, **options)
    model = BayesianModel(net, likelihood or Gaussian(), prior or FanInNormal(), 2)
    params, excluded = net.divide(flat)
    points = torch.cat([model.likelihood.init(1, 2).double() + 0.3 * rand(1, model.noise_size, seed=4), excluded], -1)
    y = rand(rows, 2, seed=6)
    target = Target(model, rand(rows, *shape, seed=5), y, weights=weights, temperature=temperature)
    return model, target, params, points


def explicit_jacobian(net, flat, x):
    """By one backward pass for each row and output, (B, w, n_full)."""
    rows = []
    for row in x:
        leaf = flat[0].clone().requires_grad_(True)
        named = {k: v for k, v in net.full.split(leaf).items()}
        out = net.call(named, row.unsqueeze(0)).flatten()
        rows.append(torch.stack([torch.autograd.grad(o, leaf, retain_graph=True)[0] for o in out]))
    return torch.stack(rows)


__all__ = ["KINDS", "explicit_jacobian", "gen", "network", "problem"]
