"""``statistics(runs, trials)``: everything that is said of a comparison, from its two tidy tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dynapilco.compare.stats import by_trial, measured, scores, survival, words
from dynapilco.compare.stats.anchors import Given
from dynapilco.compare.stats.bootstrap import RESAMPLES
from dynapilco.compare.stats.intervals import IntervalKind, check_kind
from dynapilco.compare.stats.result import Statistics
from dynapilco.compare.stats.tables_of_runs import check
from dynapilco.core.errors import UserError
from dynapilco.core.seeding import numpy_generator

FEWEST_RESAMPLES = 100


def statistics(
    runs: pd.DataFrame,
    trials: pd.DataFrame | None = None,
    *,
    interval: IntervalKind = "calibrated",
    resamples: int = RESAMPLES,
    seed: int = 0,
    unbalanced: bool = False,
    different_budgets: bool = False,
    anchors: Given | None = None,
) -> Statistics:
    """Compare methods over seeds and tasks (Agarwal et al. 2021, arXiv 2108.13264), with 95 % intervals throughout.

    Parameters
    ----------
    runs : pandas.DataFrame
        A row for each (task, method, seed): ``task``, ``method``, ``seed``, ``status`` ("done" or "failed"), at least
        one of ``normalised`` (a score whose scale means the same on all tasks, best about 1), ``score`` and
        ``success_rate`` (in [0, 1]); the first of these decides. If there: ``first_success_trial`` (NaN: never),
        ``trials`` (their number, trial 0 included), ``env_steps``, ``wall_seconds``, ``peak_memory_mb``. A failed run
        counts as the worst score and as never succeeded; its own cells are not read.
    trials : pandas.DataFrame, optional
        A row for each (task, method, seed, trial). If there: ``env_steps`` (so far), ``return``, ``success``,
        ``explored``, ``model_nll``, ``coverage_95_one_step``, ``coverage_95_horizon``, ``nll_horizon``, and
        ``crps``, ``sharpness`` with ``_one_step`` and ``_horizon``, ``seconds_model``, ``seconds_policy``,
        ``seconds_env``. What is missing is not reported.
    interval : {"calibrated", "percentile"}
        The intervals that covered best in simulation, or rliable's percentile bootstrap throughout.
    resamples : int
        Bootstrap resamples of an aggregate, at least 100.
    seed : int
        Of the bootstrap: the same tables and seed give the same numbers.
    unbalanced, different_budgets : bool
        Allow methods with fewer seeds than others, and runs of one task with different environment steps; both are said
        in the sentences.
    anchors : mapping, optional
        Task -> (score that counts 0, score that counts 1), before the documented ones
        (:mod:`dynapilco.compare.stats.anchors`): where every one of several tasks has anchors and ``normalised`` is not
        given, it is computed from ``score``.

    Raises
    ------
    UserError
        Duplicate or missing runs, a method without a task that others have, different budgets, scores that are not
        finite, anchors that are not two numbers, empty tables, unknown columns of keys: always naming the first rows
        concerned.
    """
    check_kind(interval)
    if resamples < FEWEST_RESAMPLES:
        raise UserError(f"resamples: {resamples} are too few for a 95 % interval; expected at least {FEWEST_RESAMPLES}")
    if seed < 0:
        raise UserError(f"seed: expected at least 0, got {seed}")
    checked = check(runs, trials, unbalanced=unbalanced, different_budgets=different_budgets, anchors=anchors)

    def rng(*purpose: str) -> np.random.Generator:
        return numpy_generator(seed, "/".join(purpose))

    aggregates = scores.aggregates(checked, rng, interval, resamples)
    pairs = scores.pairwise(checked, rng, interval, resamples)
    success = by_trial.success(checked)
    curves, medians, tests = survival.survival(checked)
    uncertainty = measured.uncertainty(checked, rng, interval, resamples)
    cost = measured.cost(checked, rng, interval, resamples)
    beside = pd.concat([table for table in (uncertainty, cost) if len(table)] or [cost])
    said = words.sentences(checked, aggregates, pairs, success, medians, tests, beside)
    settings: dict[str, object] = {
        "interval": interval,
        "resamples": resamples,
        "seed": seed,
        "metric": checked.metrics[0],
        "cautions": checked.cautions,
        "metric_of_tasks": {task: checked.metric_of(task) for task in checked.tasks},
        "anchors": {task: [pair.low, pair.high, pair.source] for task, pair in checked.anchors.items()},
    }
    return Statistics(
        aggregates=aggregates,
        pairwise=pairs,
        profiles=scores.profiles(checked, rng, interval),
        curves=by_trial.curves(checked, rng, interval),
        success=success,
        survival=curves,
        trials_to_success=medians,
        survival_tests=tests,
        uncertainty=uncertainty,
        cost=cost,
        sentences=said,
        settings=settings | {"unbalanced": unbalanced, "different_budgets": different_budgets},
    )


def aggregate_scores(
    scores_of: Mapping[str, np.ndarray],
    *,
    interval: IntervalKind = "calibrated",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """IQM, mean, median and optimality gap of score arrays (seeds, tasks), one for each method, on a scale up to 1.

    The input of rliable's ``get_interval_estimates``. Columns as ``Statistics.aggregates``.

    Raises
    ------
    UserError
        Arrays that are not (seeds, tasks), empty, of different numbers of tasks, or not finite.
    """
    check_kind(interval)
    arrays = {name: np.asarray(value, dtype=float) for name, value in scores_of.items()}
    if not arrays:
        raise UserError("scores: no method; expected a dictionary of arrays (seeds, tasks)")
    for name, array in arrays.items():
        if array.ndim != 2 or not array.size:
            raise UserError(f"scores[{name!r}]: expected an array (seeds, tasks), got shape {array.shape}")
        if not np.isfinite(array).all():
            raise UserError(
                f"scores[{name!r}]: not finite at (seed, task) {tuple(map(int, np.argwhere(~np.isfinite(array))[0]))}"
            )
    counts = {name: array.shape[1] for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise UserError(f"scores: numbers of tasks differ: {counts}")
    rows = []
    for name, array in arrays.items():
        stream = numpy_generator(seed, f"scores/{name}")
        body = scores.aggregate_rows(list(array.T), stream, interval, resamples, common_scale=True)
        rows += [{"method": name} | row for row in body]
    return pd.DataFrame(rows)
