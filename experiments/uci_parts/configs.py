"""The configurations that are tried: at most eight for each method and data set, the same budget for all.

Every one is a small change of a few things that matter on small data: the noise model (Gaussian or Student-t), the
scale of the prior, the strength of the stochastic part (dropout rate, temperature, step size) and the number of steps.
The first one of a method is what an untuned cell uses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST = 8


@dataclass(frozen=True)
class Config:
    """One configuration of one method.

    Attributes
    ----------
    name : str
        Short and unique within its method.
    options : mapping
        Of the method.
    likelihood, likelihood_options, prior, prior_options
        As in ``BayesianModule``.
    on : mapping
        For some data sets: method options of their own.
    only : sequence of str
        The data sets that it is tried on; empty: all.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    likelihood: str = "gaussian"
    likelihood_options: Mapping[str, Any] = field(default_factory=dict)
    prior: str = "fan_in_normal"
    prior_options: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    only: Sequence[str] = ()

    def settings(self, method: str, dataset: str) -> dict[str, Any]:
        """Everything that decides a fit, as plain data."""
        return {
            "method": method,
            "options": {**self.options, **self.on.get(dataset, {})},
            "likelihood": self.likelihood,
            "likelihood_options": dict(self.likelihood_options),
            "prior": self.prior,
            "prior_options": dict(self.prior_options),
        }

    def text(self, method: str, dataset: str) -> str:
        """The settings as one line of JSON."""
        return json.dumps(self.settings(method, dataset), sort_keys=True)


def configs_of(method: str, dataset: str) -> list[Config]:
    """The configurations of ``method`` that are tried on ``dataset``; a method without a list has its defaults."""
    listed = CONFIGS.get(method, (Config("default"),))
    return [c for c in listed if not c.only or dataset in c.only]


def _t() -> dict[str, Any]:
    """Noise with heavy tails, whose degrees of freedom are learned."""
    return {"likelihood": "student_t", "likelihood_options": {"learn_df": True}}


def _budget(**steps: float) -> dict[str, dict[str, Any]]:
    """Updates and rows of a minibatch by data set; ``steps`` in thousands."""
    rows = {"power": 256}
    return {name: {"cold_steps": round(1000 * k), "batch_size": rows.get(name, 128)} for name, k in steps.items()}


def _scaled(on: Mapping[str, Mapping[str, Any]], factor: float) -> dict[str, dict[str, Any]]:
    """The budget with ``factor`` times the updates."""
    return {name: {**options, "cold_steps": round(factor * options["cold_steps"])} for name, options in on.items()}


SMALL = ("boston", "concrete", "wine")
"""Where a configuration costs little; on power, with 9,568 rows, fewer are tried."""

POINT = _budget(boston=0.4, concrete=3, power=3, wine=1.5)
"""Optimisers stop before the noise scale has shrunk to the residuals of an over-fitted network; on boston after 100
passes over the data, more on the others."""

DROPOUT = _budget(boston=1, concrete=4, power=4, wine=2)

VARIATIONAL = _budget(boston=1.5, concrete=2.5, power=2, wine=1.5)

CHAINS = _budget(boston=2, concrete=3, power=2, wine=2)

SWAG_STEPS = _budget(boston=0.8, concrete=3, power=2, wine=1.5)

HMC_STEPS: dict[str, dict[str, Any]] = {
    "boston": {"members": 3, "keep": 60, "cold_steps": 500},
    "concrete": {"members": 3, "keep": 60, "cold_steps": 500},
    "power": {"members": 1, "keep": 60, "cold_steps": 300},
    "wine": {"members": 3, "keep": 60, "cold_steps": 400},
}
"""Full batches; a quarter of the updates are proposals of about 19 gradients each."""


def _make(name: str, on: Mapping[str, Any], hidden: float, noise: Mapping[str, Any], options: Mapping[str, Any],
          only: Sequence[str] = ()) -> Config:  # fmt: skip
    return Config(name, options, on=on, prior_options={"hidden_scale": hidden}, only=only, **noise)


def _ensemble(name: str, hidden: float, noise: Mapping[str, Any], factor: float = 1.0, **more: Any) -> Config:
    only = () if name in ("gauss h1", "t h1", "t h2", "t h2 long") else SMALL
    return _make(name, _scaled(POINT, factor), hidden, noise, {"members": 10, **more}, only)


def _dropout(
    name: str, rate: float, hidden: float, noise: Mapping[str, Any], only: Sequence[str] = (), **more: Any
) -> Config:
    return _make(name, DROPOUT, hidden, noise, {"rate": rate, **more}, only)


def _long(name: str, rate: float, hidden: float, only: str) -> Config:
    """About as long as the published 10x column (400 passes in batches of 32; wine: 267)."""
    return _make(name, {only: {"cold_steps": 12_000, "batch_size": 32}}, hidden, _t(), {"rate": rate}, (only,))


def _cold(name: str, on: Mapping[str, Any], hidden: float, temperature: float, noise: Mapping[str, Any],
          options: Mapping[str, Any] | None = None, only: Sequence[str] = ()) -> Config:  # fmt: skip
    return _make(name, on, hidden, noise, {"temperature": temperature, **(options or {})}, only)


GAUSS: dict[str, Any] = {}

CHAIN = {"members": 2, "keep": 50}

CONFIGS: dict[str, Sequence[Config]] = {
    "adam": [
        _make("gauss h1", POINT, 1.0, GAUSS, {}),
        _make("t h.5", POINT, 0.5, _t(), {}),
        _make("t h1", POINT, 1.0, _t(), {}),
        _make("t h2", POINT, 2.0, _t(), {}, SMALL),
    ],
    "ensemble": [
        _ensemble("gauss h1", 1.0, GAUSS),
        _ensemble("t h.5", 0.5, _t()),
        _ensemble("t h1", 1.0, _t()),
        _ensemble("t h2", 2.0, _t()),
        _ensemble("t h1 short", 1.0, _t(), 0.5),
        _ensemble("t h2 long", 2.0, _t(), 2.0),
        _ensemble("t h1 bootstrap", 1.0, _t(), kind="bootstrap"),
        _ensemble("t h1 random prior", 1.0, _t(), kind="prior"),
    ],
    "mc_dropout": [
        _dropout("p.05 gauss h2", 0.05, 2.0, GAUSS, ("boston", "concrete", "power")),
        _dropout("p.01 t h1", 0.01, 1.0, _t()),
        _dropout("p.01 t h4", 0.01, 4.0, _t(), ("boston", "power")),
        _dropout("p.05 t h1", 0.05, 1.0, _t(), SMALL),
        _dropout("p.05 t h4", 0.05, 4.0, _t(), ("boston",)),
        _dropout("p.1 t h1", 0.1, 1.0, _t(), SMALL),
        _dropout("p.1 t h4", 0.1, 4.0, _t(), ("boston", "wine")),
        _dropout("p.2 t h2", 0.2, 2.0, _t(), ("boston", "wine")),
        _long("p.05 t h1 long", 0.05, 1.0, "concrete"),
        _long("p.2 t h2 long", 0.2, 2.0, "wine"),
        _dropout("p.05 t h1 inputs too", 0.05, 1.0, _t(), ("concrete",), drop_inputs=True),
        _dropout("p.05 t h1 5 members", 0.05, 1.0, _t(), ("concrete",), members=5),
        _dropout("p.05 t h2 5 members", 0.05, 2.0, _t(), ("concrete",), members=5),
        _dropout("p.2 t h2 5 members", 0.2, 2.0, _t(), ("wine",), members=5),
        _dropout("p.2 t h4 5 members", 0.2, 4.0, _t(), ("wine",), members=5),
    ],
    "bbb": [
        _cold("t h1", VARIATIONAL, 1.0, 1.0, _t()),
        _cold("t h1 T.4", VARIATIONAL, 1.0, 0.4, _t(), only=SMALL),
        _cold("t h2 T.2", VARIATIONAL, 2.0, 0.2, _t()),
        _cold("t h1 T.05", VARIATIONAL, 1.0, 0.05, _t(), only=SMALL),
    ],
    "hmc": [
        _cold("t h1", HMC_STEPS, 1.0, 1.0, _t(), only=SMALL),
        _cold("t h2", HMC_STEPS, 2.0, 1.0, _t(), only=SMALL),
        _cold("t h4", HMC_STEPS, 4.0, 1.0, _t(), only=SMALL),
        _cold("t h1 long", _scaled(HMC_STEPS, 4), 1.0, 1.0, _t(), only=("boston", "concrete", "power")),
        _cold("t h2 long", _scaled(HMC_STEPS, 4), 2.0, 1.0, _t()),
        _cold("t h4 long", _scaled(HMC_STEPS, 4), 4.0, 1.0, _t(), only=("wine",)),
        _cold("t h1 early start", _scaled(HMC_STEPS, 3), 1.0, 1.0, _t(), {"search": 0.12}, ("boston",)),
    ],
    "laplace": [
        _cold("t h1", POINT, 1.0, 1.0, _t()),
        _cold("t h.5", POINT, 0.5, 1.0, _t()),
        _cold("t h1 last layer", POINT, 1.0, 1.0, _t(), {"subset": "last_layer"}, SMALL),
    ],
    "concrete_dropout": [
        _cold("t h1", VARIATIONAL, 1.0, 1.0, _t()),
        _cold("t h4", VARIATIONAL, 4.0, 1.0, _t()),
        _cold("t h1 T.2", VARIATIONAL, 1.0, 0.2, _t(), only=SMALL),
    ],
    "sgld": [
        _cold("t h1", CHAINS, 1.0, 1.0, _t(), CHAIN),
        _cold("t h2", CHAINS, 2.0, 1.0, _t(), CHAIN),
        _cold("t h2 preconditioned", CHAINS, 2.0, 1.0, _t(), {**CHAIN, "preconditioned": True}, SMALL),
    ],
    "sghmc": [
        _cold("t h1", CHAINS, 1.0, 1.0, _t(), CHAIN),
        _cold("t h2", CHAINS, 2.0, 1.0, _t(), CHAIN),
        _cold("t h2 T.3", CHAINS, 2.0, 0.3, _t(), CHAIN, SMALL),
    ],
    **{
        natural: [
            _cold("t h1", VARIATIONAL, 1.0, 1.0, _t()),
            _cold("t h1 T.4", VARIATIONAL, 1.0, 0.4, _t(), only=SMALL),
            _cold("t h2 T.2", VARIATIONAL, 2.0, 0.2, _t()),
        ]
        for natural in ("ivon", "vadam", "bsam")
    },
    "sgd": [
        _cold("t h1", VARIATIONAL, 1.0, 1.0, _t()),
        _cold("t h.5", VARIATIONAL, 0.5, 1.0, _t()),
    ],
    "swag": [
        _cold("t h1", SWAG_STEPS, 1.0, 1.0, _t(), {"swag_rate": 0.003}),
        _cold("t h1 rate .01", SWAG_STEPS, 1.0, 1.0, _t(), {"swag_rate": 0.01}),
        _cold("t h1 rate .01, 4 members", SWAG_STEPS, 1.0, 1.0, _t(), {"swag_rate": 0.01, "members": 4}, SMALL),
    ],
}
