"""What the tests of SGD, Adam and SWAG share."""

import copy
from dataclasses import replace

import torch

from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, StackedNetwork, Target, fit, mlp
from dynapilco.inference.method import replica
from tests.inference.harness import gen, rand
from tests.inference.methods.natural_checks import Tied


def check_members(method, names):
    """Three members, also with data of their own, are three separate fits: 1e-6 in float64."""
    model = BayesianModel(StackedNetwork(mlp(2, 1, (6,)).double()), Gaussian(), FanInNormal(), 1)
    x, y = rand(3, 20, 2), rand(3, 20, 1, seed=1)
    for data in ((x, y), (x[0], y[0])):
        state = replace(method, members=3).init(model, gen())
        alone = [{k: v.clone() for k, v in replica(state, s, 3).items()} for s in range(3)]
        fit(method, state, Target(model, *data), gen(), steps=12)
        for s, single in enumerate(alone):
            own = data if data[1].dim() == 2 else (data[0][s], data[1][s])
            fit(method, single, Target(model, *own), gen(), steps=12)
            for name in names:
                torch.testing.assert_close(replica(state, s, 3)[name], single[name], atol=1e-6, rtol=0)


def check_any_module(method):
    """A module that is no plain stack, in minibatches, with an excluded layer: learns, excludes, is reproducible."""
    net = Tied()
    before = copy.deepcopy(net.state_dict())
    model = BayesianModel(StackedNetwork(net, exclude=["norm.*"]), Gaussian(), FanInNormal(), 1)
    x = rand(24, 4, dtype=torch.float32)
    target, ends, method = Target(model, x, x[:, :1]), [], replace(method, batch_size=8, members=2)
    for seed in (0, 0, 1):
        state = method.init(model, gen())
        first = target.potential(state["params"], state["points"])
        excluded = model.split_points(state["points"])[1].clone()
        report = fit(method, state, target, gen(seed), steps=25)
        assert not report.diverged
        assert (target.potential(state["params"], state["points"]) < first).all()
        assert not torch.equal(model.split_points(state["points"])[1], excluded)
        ends.append(state["params"].clone())
        draw = method.draw(model, state, 5, gen(3))
        outputs = draw(x)
        for tensor in state.values():
            tensor.add_(1)
        assert torch.equal(draw(x), outputs)  # a draw does not follow the state
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def check_warm_start(method, steps=400):
    """With grown data the fit goes on from where it was."""
    model = BayesianModel(StackedNetwork(mlp(1, 1, (8,))), Gaussian(), FanInNormal(), 1)
    x = torch.linspace(-2, 2, 80).unsqueeze(1)
    small, large = Target(model, x[::2], torch.sin(x[::2])), Target(model, x, torch.sin(x))
    warm, cold = method.init(model, gen()), method.init(model, gen())
    fit(method, warm, small, gen(), steps=steps)
    again, fresh = (fit(method, state, large, gen(), steps=5).potential for state in (warm, cold))
    assert again < fresh - 0.3


def check_own_loop(method):
    """A user's own optimiser descends the loss."""
    model = BayesianModel(StackedNetwork(mlp(1, 1, (8,))), Gaussian(), FanInNormal(), 1)
    x = torch.linspace(-2, 2, 30).unsqueeze(1)
    batch, state = Target(model, x, torch.sin(x)).batch(), method.init(model, gen())
    leaves = {k: torch.nn.Parameter(v) for k, v in state.items() if k in method.trainable}
    optimiser, values = torch.optim.SGD(leaves.values(), 0.02), []
    for _ in range(30):
        optimiser.zero_grad()
        loss = method.loss({**state, **leaves}, batch, gen()).sum() / 30
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0] - 0.1
