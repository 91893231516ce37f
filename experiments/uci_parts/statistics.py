"""What the tables say: means, standard errors, the method named by inner splits, paired tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from uci_parts.store import Row

Values = Mapping[str, np.ndarray]
"""By method: one number for each split."""


@dataclass(frozen=True)
class Mean:
    """Mean over splits with its standard error (sample standard deviation over the root of the number of splits)."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class Paired:
    """A method beside the reference on the same splits.

    Attributes
    ----------
    difference : Mean
        Method minus reference: above 0 the reference is better.
    t_test, wilcoxon : float
        Two-sided p-values, after Holm's correction over the methods compared.
    """

    difference: Mean
    t_test: float
    wilcoxon: float


def mean_of(values: Sequence[float] | np.ndarray) -> Mean:
    """Mean and standard error; the latter is NaN for a single value."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(float(values.mean()), float(error))


def column(rows: Sequence[Row], dataset: str, name: str) -> dict[str, np.ndarray]:
    """Values of a column by method, in the order of the splits."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["dataset"] == dataset:
            found.setdefault(row["method"], []).append((int(row["split"]), float(row[name])))
    return {method: np.array([value for _, value in sorted(pairs)]) for method, pairs in found.items()}


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for testing all of them (Holm 1979)."""
    order, adjusted, largest = np.argsort(p), [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def paired_tests(values: Values, reference: str) -> dict[str, Paired]:
    """Every other method against ``reference``, over the same splits."""
    others = [m for m, v in values.items() if m != reference and len(v) == len(values[reference])]
    gaps = {m: values[m] - values[reference] for m in others}
    t_tests = holm([_p(stats.ttest_1samp, gaps[m]) for m in others])
    ranks = holm([_p(stats.wilcoxon, gaps[m]) for m in others])
    return {m: Paired(mean_of(gaps[m]), t, w) for m, t, w in zip(others, t_tests, ranks, strict=True)}


def _p(test, gaps: np.ndarray) -> float:
    if np.ptp(gaps) == 0 and gaps[0] == 0:
        return 1.0
    return float(test(gaps, 0.0).pvalue if test is stats.ttest_1samp else test(gaps).pvalue)


def best_inner(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """By (data set, method), the configuration of the lowest inner NLL; diverged ones do not count."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["dataset"], row["method"]
        usable = row["diverged"] != "True" and not math.isnan(float(row["nll"]))
        if usable and (key not in best or float(row["nll"]) < float(best[key]["nll"])):
            best[key] = row
    return best


def named_method(rows: Sequence[Row], datasets: Sequence[str], exclude: Sequence[str] = ()) -> str | None:
    """The method of the lowest inner NLL, summed over the data sets: named without a look at any test row."""
    best = best_inner(rows)
    methods = {m for _, m in best if all((d, m) in best for d in datasets)} - set(exclude)
    if not methods:
        return None
    return min(sorted(methods), key=lambda m: sum(float(best[d, m]["nll"]) for d in datasets))
