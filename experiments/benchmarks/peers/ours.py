"""Our rows of the comparison, one function each: build, and return ``run(steps)``.

Each does what the peer's row of the same name does (see ``run_*.py``): the data, starting weights and constants of
``workload.py``, one thread, float32. What is timed is what a user's ``fit`` does: ``Fit.advance`` with its minibatches
and its checks every 50 updates. ``run`` returns the last potential or the acceptance rate, a finite float.
"""

from __future__ import annotations

import math

import torch
import torch_parts as parts
import worker
import workload

from dynapilco.inference import BayesianModel, Fit, Gaussian, InferenceMethod, StackedNetwork, Target, make_method
from dynapilco.inference.priors import NormalPrior

ENDLESS = 10**8
"""Length of the fit's schedules: no decay within the benchmark."""


def started(method: InferenceMethod, rows: int = workload.ROWS) -> Fit:
    """A fit of ``method`` that has not begun its steps."""
    model = BayesianModel(
        StackedNetwork(parts.network()), Gaussian(fixed=workload.SIGMA), NormalPrior(1.0), workload.WIDTHS[-1]
    )
    x, y = (torch.from_numpy(part) for part in workload.data(rows))
    generator = torch.Generator().manual_seed(workload.SEED)
    state = method.init(model, generator)
    return Fit(method, state, Target(model, x, y), generator, ENDLESS)


def stepping(method: InferenceMethod) -> worker.Run:
    """``run(steps)`` that advances a fit."""
    fit = started(method)

    def run(steps: int) -> float:
        fit.advance(steps)
        if fit.diverged:
            raise FloatingPointError("the fit diverged")
        return fit.potential if math.isfinite(fit.potential) else 0.0

    return run


def bbb(samples: int) -> worker.Run:
    """Bayes by backprop: Gaussian log-likelihood of scale SIGMA, analytic KL to N(0, 1), Adam."""
    options = {"samples": samples, "batch_size": workload.BATCH, "learning_rate": workload.LEARNING_RATE}
    return stepping(make_method("bbb", options))


def ivon() -> worker.Run:
    """IVON, one sample."""
    options = {"samples": 1, "batch_size": workload.BATCH, "learning_rate": workload.LEARNING_RATE}
    return stepping(make_method("ivon", options))


def adam() -> worker.Run:
    """Our Adam: the deterministic step."""
    return stepping(make_method("adam", {"batch_size": workload.BATCH, "learning_rate": workload.LEARNING_RATE}))


CHAIN_STEPS = 200_000
"""Length of a chain's plan; more than a repetition takes."""


def chain(method: InferenceMethod, rows: int = workload.ROWS) -> Fit:
    """A fit of chains without a search, standing at the starts of the workload."""
    fit = started(method, rows)
    fit.steps = CHAIN_STEPS
    layout = fit.target.model.network.layout
    fit.state["params"].copy_(layout.join(parts.chains()))
    return fit


def sampling(method: InferenceMethod) -> worker.Run:
    """``run(steps)`` that moves the chains; they begin again from their starts when the plan is used up."""
    fit = chain(method)

    def run(steps: int) -> float:
        nonlocal fit
        if fit.done + steps > CHAIN_STEPS:
            fit = chain(method)
        fit.advance(steps)
        if fit.diverged:
            raise FloatingPointError("the chains diverged")
        return fit.potential if math.isfinite(fit.potential) else 0.0

    return run


PLAIN = {"members": workload.CHAINS, "search": 0.0, "burn_in": 0.0, "keep": 1}


def sgld_8() -> worker.Run:
    """SGLD, 8 chains, N(0, 1) prior."""
    step = {"step_size": workload.SAMPLER_STEP, "step_units": "absolute"}
    return sampling(make_method("sgld", {**PLAIN, **step, "batch_size": workload.BATCH}))


def sghmc_8() -> worker.Run:
    """SGHMC, 8 chains, N(0, 1) prior."""
    step = {"step_size": workload.SAMPLER_STEP, "step_units": "absolute", "scale_adapted": False}
    return sampling(make_method("sghmc", {**PLAIN, **step, "batch_size": workload.BATCH}))


def hmc(rows: int) -> worker.Run:
    """HMC, 8 chains, LEAPFROGS leapfrogs of HMC_STEP, full batch of the first ``rows`` rows, N(0, 1) prior, SIGMA.

    One step is one transition of all chains, accept step included.
    """
    fixed = {"leapfrogs": workload.LEAPFROGS, "jitter": 0.0, "step_size": workload.HMC_STEP, "adapt_mass": False}
    fit = chain(make_method("hmc", {**PLAIN, **fixed}), rows)

    def run(steps: int) -> float:
        fit.advance(steps)
        return float(fit.method.metrics(fit.state)["acceptance"])

    return run


WORKLOADS: worker.Workloads = {
    "bbb_1": lambda: bbb(1),
    "bbb_10": lambda: bbb(10),
    "sgld_8": sgld_8,
    "sghmc_8": sghmc_8,
    "ivon": ivon,
    "adam": adam,
    "hmc_8_n200": lambda: hmc(200),
    "hmc_8_n1000": lambda: hmc(1000),
}

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
