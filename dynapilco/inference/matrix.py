"""Which architectures, priors and likelihoods each method takes, found by asking the methods themselves.

``python -m dynapilco.inference.matrix`` prints the table of the documentation (docs/reference/inference-matrix.md).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import Normal

from dynapilco.core.errors import UserError
from dynapilco.inference.examples import EXAMPLES, Example
from dynapilco.inference.likelihoods import LIKELIHOODS, Likelihood, make_likelihood
from dynapilco.inference.method import METHODS, InferenceMethod, make_method
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.priors import PRIORS, Prior, make_prior
from dynapilco.inference.random import global_generator_from
from dynapilco.inference.target import BayesianModel

LIKELIHOOD_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "categorical": {"classes": 3},
    "joint": {"blocks": (("gaussian", 1), ("bernoulli", 1))},
}
PRIOR_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "per_layer": {"layers": {"*bias": "normal", "*": "laplace"}},
    "torch": {"distribution": Normal(0.0, 1.0)},
}
COLUMNS = {"joint": 2}
"""Target columns of the examples, where they are not 1."""

ARCHITECTURE, PRIOR, LIKELIHOOD = "architecture", "prior", "likelihood"


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes
    ----------
    part : str
        ``"architecture"``, ``"prior"`` or ``"likelihood"``.
    name : str
    reason : str or None
        Why the method refuses it; None where it takes it.
    """

    part: str
    name: str
    reason: str | None


def supported(method: str | InferenceMethod) -> list[Row]:
    """What ``method`` (by name: with its default options) takes, one part varied at a time.

    Architectures are asked with a Gaussian likelihood and the ``fan_in_normal`` prior, the other parts on an MLP.

    Raises
    ------
    UserError
        For an unknown name, listing the valid ones.
    """
    asked, first = make_method(method), next(iter(EXAMPLES.values()))
    rows = [Row(ARCHITECTURE, name, _reason(asked, example)) for name, example in EXAMPLES.items()]
    rows += [Row(PRIOR, name, _reason(asked, first, prior=name)) for name in PRIORS]
    return rows + [Row(LIKELIHOOD, name, _reason(asked, first, likelihood=name)) for name in LIKELIHOODS]


def example_likelihood(name: str) -> Likelihood:
    """The likelihood called ``name``, with options for the examples where it needs some."""
    return make_likelihood(name, **LIKELIHOOD_OPTIONS.get(name, {}))


def example_prior(name: str) -> Prior:
    """The prior called ``name``, with options for the examples where it needs some."""
    return make_prior(name, **PRIOR_OPTIONS.get(name, {}))


def example_model(example: Example, likelihood: str = "gaussian", prior: str = "fan_in_normal") -> BayesianModel:
    """A small model of these parts; its weights are always the same."""
    observed, columns = example_likelihood(likelihood), COLUMNS.get(likelihood, 1)
    with global_generator_from(torch.Generator().manual_seed(0)):
        network = StackedNetwork(example.build(observed.network_outputs(columns)))
    return BayesianModel(network, observed, example_prior(prior), columns)


def _reason(
    method: InferenceMethod, example: Example, likelihood: str = "gaussian", prior: str = "fan_in_normal"
) -> str | None:
    try:
        model = example_model(example, likelihood, prior)
    except UserError as error:  # a part of the user's own that cannot be made without options
        return str(error)
    return method.refusal(model)


def table() -> str:
    """The matrix of all methods in Markdown, refusals explained below."""
    names = list(METHODS)
    reports = {name: supported(name) for name in names}
    notes: list[str] = []
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", f"|---|{'---|' * len(names)}"]
    part = ""
    for i, row in enumerate(reports[names[0]]):
        if row.part != part:
            part = row.part
            lines.append(f"| **{part}** |{' |' * len(names)}")
        cells = [_cell(reports[name][i].reason, notes) for name in names]
        label = row.name if part == ARCHITECTURE else f"`{row.name}`"
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, *([""] if notes else []), *(f"{n}. {note}" for n, note in enumerate(notes, 1))])


def _cell(reason: str | None, notes: list[str]) -> str:
    if reason is None:
        return "yes"
    if reason not in notes:
        notes.append(reason)
    return f"no ({notes.index(reason) + 1})"


HEAD = """# What each method takes

Written by `python -m dynapilco.inference.matrix > docs/reference/inference-matrix.md`: each method is asked, with its
default options, about a small module of every architecture, every prior and every likelihood. `dynapilco list
--inference NAME` prints one column of it. A refusal is an error that gives the reason, before any work is done. All of
these combinations are also fitted in `tests/inference/test_architectures.py`.
"""


def page() -> str:
    """The page of the documentation."""
    return f"{HEAD}\n{table()}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
