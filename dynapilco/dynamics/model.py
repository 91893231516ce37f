"""The Bayesian dynamics model: transitions in, draws of the dynamics out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from dynapilco.core.seeding import torch_generator
from dynapilco.dynamics.config import DynamicsConfig
from dynapilco.dynamics.encoding import Geometry, Normaliser, Stepping, make_stepping, visited_bounds
from dynapilco.dynamics.transitions import Transitions
from dynapilco.inference import (
    BayesianModel,
    Bernoulli,
    Draw,
    FanInNormal,
    FitReport,
    Gaussian,
    InferenceMethod,
    Joint,
    StackedNetwork,
    State,
    Target,
    fit,
    mlp,
)
from dynapilco.inference.method import Metrics
from dynapilco.inference.random import global_generator_from

OUTPUT_BIAS_SCALE = 0.1
"""Prior standard deviation of the output biases: targets are standardised."""
BINARY = "binary"
"""Name of the binary columns in a snapshot."""
LOGIT_SCALE = 4.0
"""How much wider than standardised outputs logits roam before data."""
LOGIT_BIAS_SCALE = 5.0
"""The same for a logit, which may have to say that one answer in a thousand is yes."""


@dataclass(frozen=True)
class DynamicsDraw:
    """S fixed dynamics functions on raw features: normalisers are folded in.

    Attributes
    ----------
    functions : Draw
        Of z = [x, sin, cos, u] (D + 2A + M columns) to outputs y (O columns) in the units of the state.
    geometry : Geometry
    stepping : Stepping
    sensor_std : Tensor or None
        Standard deviation (D,) of sensor noise. When it is given, the noise of the model is sensor noise: states move
        without noise and only the policy sees it (``noise="observation"``).
    """

    functions: Draw
    geometry: Geometry
    stepping: Stepping
    sensor_std: Tensor | None

    @property
    def size(self) -> int:
        """S."""
        return self.functions.size

    @property
    def process_std(self) -> Tensor | None:
        """Noise of each function's outputs, (S, O), or None where states move without noise."""
        return self.noise_std if self.sensor_std is None else None

    @cached_property
    def noise_std(self) -> Tensor:
        """Standard deviation of each function's noise, (S, O); 0 where an output is a logit."""
        binary = binary_outputs(self.geometry, self.stepping)
        if not binary:
            return self.functions.scale
        std = self.functions.noise.new_zeros(self.size, self.stepping.outputs)
        std[:, [o for o in range(self.stepping.outputs) if o not in binary]] = self.functions.noise  # logits have none
        return std

    def outputs(self, x: Tensor, u: Tensor) -> Tensor:
        """Mean outputs y (S, P, O) of states x (S, P, D) and actions u (S, P, M)."""
        return self.functions.each(torch.cat([self.geometry.features(x), u], dim=-1))

    def step(self, x: Tensor, u: Tensor, noise: Tensor | None = None) -> Tensor:
        """Next states of (R, S, P, D) under actions (R, S, P, M), plus scaled output noise (R, S, P, O)."""
        r, s, p, _ = x.shape
        y = self.outputs(x.transpose(0, 1).reshape(s, r * p, -1), u.transpose(0, 1).reshape(s, r * p, -1))
        y = y.reshape(s, r, p, -1).transpose(0, 1)
        return self.stepping.advance(x, y if noise is None else y + noise, u)


class DynamicsModel:
    """A BNN over transitions, fitted by any inference method.

    Parameters
    ----------
    geometry : Geometry
    config : DynamicsConfig
    method : InferenceMethod
    device : torch.device
    seed : int
        Of the network's initial weights.

    Raises
    ------
    UserError
        Where the method cannot treat the model (of binary columns: see :func:`binary_refusal`).
    """

    def __init__(
        self,
        geometry: Geometry,
        config: DynamicsConfig,
        method: InferenceMethod,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.geometry, self.config, self.method, self.device = geometry, config, method, device
        self.stepping = make_stepping(geometry, config.targets).to(device)
        self.bayes = _bayesian(geometry, config, method, seed)
        method.check(self.bayes)
        self.state: State | None = None
        self.inputs: Normaliser | None = None
        self.targets: Normaliser | None = None
        self.sensor_std: Tensor | None = None
        self.bounds: Tensor | None = None

    def fit(
        self,
        data: Transitions,
        generator: torch.Generator,
        callback: Callable[[int, int, Metrics], None] | None = None,
    ) -> FitReport:
        """Fit to all data; warm where it was fitted before. A warm fit that diverges leaves the model as it was."""
        before = None if self.state is None else self.snapshot()
        data = data.to(self.device)
        rows, y = self._rows(data.states, data.actions), self.stepping.targets(data.states, data.next_states)
        binary = binary_outputs(self.geometry, self.stepping)
        centred = [o for o, column in enumerate(self.stepping.columns) if column in self.geometry.unseen]
        self.inputs, self.targets = Normaliser.of_inputs(rows), Normaliser.of_targets(y.cpu(), centred)
        self.targets = Normaliser(self.targets.mean.to(self.device), self.targets.std.to(self.device))
        self.bounds = visited_bounds(self.geometry, data, self.config.reach)
        if binary:  # answers have no unit
            self.targets.mean[binary], self.targets.std[binary] = 0.0, 1.0
            y[:, binary] = data.next_states[:, [self.stepping.columns[o] for o in binary]]
        warm = self.state is not None
        if self.state is None:
            self.state = self.method.init(self.bayes, generator)
        target = Target(self.bayes, self.inputs(rows), self.targets(y), temperature=self.method.temperature)
        steps = self.method.steps(warm=warm)
        report = fit(self.method, self.state, target, generator, steps=steps, callback=callback)
        if report.diverged and before is not None:  # its last good state is one of other normalisers
            self.restore(before)
        elif self.config.noise == "observation":
            self.sensor_std = self._estimate_sensor_std(data, generator)
        return report

    def draw(self, size: int, generator: torch.Generator) -> DynamicsDraw:
        """``size`` dynamics functions."""
        assert self.state is not None and self.inputs is not None and self.targets is not None, "fit first"
        functions = self.method.draw(self.bayes, self.state, size, generator)
        functions = functions.fold(
            (1 / self.inputs.std, -self.inputs.mean / self.inputs.std), (self.targets.std, self.targets.mean)
        ).project(self.geometry.selection(self.geometry.actions).to(self.device))
        return DynamicsDraw(functions, self.geometry, replace(self.stepping, bounds=self.bounds), self.sensor_std)

    def snapshot(self) -> State:
        """Everything learned, as named tensors."""
        assert self.state is not None and self.inputs is not None and self.targets is not None, "fit first"
        named = {f"method/{name}": t.detach().clone() for name, t in self.state.items()}
        named |= {"inputs/mean": self.inputs.mean, "inputs/std": self.inputs.std}
        named |= {"targets/mean": self.targets.mean, "targets/std": self.targets.std}
        binary = torch.tensor(self.geometry.binary) if self.geometry.binary else None
        extra = {"sensor_std": self.sensor_std, "bounds": self.bounds, BINARY: binary}
        return named | {name: value for name, value in extra.items() if value is not None}

    def restore(self, named: State) -> None:
        """Put a snapshot back."""
        named = {name: t.to(self.device) for name, t in named.items()}
        self.state = {n.removeprefix("method/"): t.clone() for n, t in named.items() if n.startswith("method/")}
        self.inputs = Normaliser(named["inputs/mean"], named["inputs/std"])
        self.targets = Normaliser(named["targets/mean"], named["targets/std"])
        self.sensor_std, self.bounds = named.get("sensor_std"), named.get("bounds")

    def _rows(self, states: Tensor, actions: Tensor) -> Tensor:
        features = torch.cat([self.geometry.features(states), actions], dim=-1)
        return features[:, self.geometry.kept(self.geometry.actions)]

    def _estimate_sensor_std(self, data: Transitions, generator: torch.Generator) -> Tensor:
        """Residual of each state column over sqrt(2): both ends of a transition carry the sensor's noise."""
        self.sensor_std = None
        draw = self.draw(20, generator)
        x, u = (t.expand(draw.size, *t.shape) for t in (data.states, data.actions))
        predicted = self.stepping.advance(data.states, draw.outputs(x, u).mean(0), data.actions)
        std = (data.next_states - predicted).square().mean(0).sqrt() / 2**0.5
        for column, source in self.geometry.past:  # what was seen then was as noisy
            std[column] = std[source]
        std[list(self.geometry.binary)] = 0.0  # an answer is no measurement
        return std


def is_binary(named: State) -> bool:
    """Whether a snapshot is of a model with binary columns."""
    return BINARY in named


def binary_outputs(geometry: Geometry, stepping: Stepping) -> list[int]:
    """Numbers of the outputs that are logits of yes-or-no columns."""
    return [o for o, column in enumerate(stepping.columns) if column in geometry.binary]


def binary_refusal(geometry: Geometry, config: DynamicsConfig, method: InferenceMethod) -> str | None:
    """Why a method cannot treat the binary columns of a geometry, where it can treat the rest; else None."""
    numbers = replace(geometry, binary=())
    if not geometry.binary or method.refusal(_bayesian(numbers, config, method, 0)) is not None:
        return None
    return method.refusal(_bayesian(geometry, config, method, 0))


def _bayesian(geometry: Geometry, config: DynamicsConfig, method: InferenceMethod, seed: int) -> BayesianModel:
    """Network, likelihood and prior: Gaussian noise, but for answers of yes or no, whose outputs are logits."""
    stepping = make_stepping(geometry, config.targets)
    inputs, binary = len(geometry.kept(geometry.actions)), binary_outputs(geometry, stepping)
    with global_generator_from(torch_generator(seed, "skeleton")):  # some methods start at these weights
        hidden = config.hidden or method.suggested_hidden
        network = mlp(inputs, stepping.outputs, hidden, config.activation)
    likelihood, scale, bias = Gaussian(floor=config.noise_floor), config.prior_output_scale, OUTPUT_BIAS_SCALE
    if binary:
        kinds = [o in binary for o in range(stepping.outputs)]
        blocks = [(Bernoulli() if yes else likelihood, len(list(run))) for yes, run in groupby(kinds)]
        likelihood, bias = Joint(tuple(blocks)), tuple(LOGIT_BIAS_SCALE if yes else bias for yes in kinds)
        scale = tuple(LOGIT_SCALE * scale if yes else scale for yes in kinds)
    prior = FanInNormal(config.prior_scale, scale, bias)
    return BayesianModel(StackedNetwork(network), likelihood, prior, stepping.outputs)
