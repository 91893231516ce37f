"""Our rows of the comparison, one function each: build, and return ``run(steps)``.

Each must do what the peer's row of the same name does (see ``run_*.py``): the data, batches, starting weights and
constants of ``workload.py``, one thread, float32. ``run`` returns the last loss or acceptance rate, a finite float.
"""

from __future__ import annotations

import worker


def bbb_1() -> worker.Run:
    """Bayes by backprop, one sample: Gaussian log-likelihood of scale SIGMA, analytic KL to N(0, 1), Adam."""
    raise NotImplementedError("bbb_1")


def bbb_10() -> worker.Run:
    """The same with ten weight samples a step."""
    raise NotImplementedError("bbb_10")


def sgld_8() -> worker.Run:
    """SGLD, 8 chains, N(0, 1) prior."""
    raise NotImplementedError("sgld_8")


def sghmc_8() -> worker.Run:
    """SGHMC, 8 chains, N(0, 1) prior."""
    raise NotImplementedError("sghmc_8")


def ivon() -> worker.Run:
    """IVON, one sample."""
    raise NotImplementedError("ivon")


def adam() -> worker.Run:
    """Our Adam: the deterministic step."""
    raise NotImplementedError("adam")


def hmc(rows: int) -> worker.Run:
    """HMC, 8 chains, LEAPFROGS leapfrogs of HMC_STEP, full batch of the first ``rows`` rows, N(0, 1) prior, SIGMA.

    One step is one transition of all chains, accept step included.
    """
    raise NotImplementedError(f"hmc_8_n{rows}")


WORKLOADS: worker.Workloads = {
    "bbb_1": bbb_1,
    "bbb_10": bbb_10,
    "sgld_8": sgld_8,
    "sghmc_8": sghmc_8,
    "ivon": ivon,
    "adam": adam,
    "hmc_8_n200": lambda: hmc(200),
    "hmc_8_n1000": lambda: hmc(1000),
}

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
