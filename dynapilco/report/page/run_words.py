"""What the report of a run says in words and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import binomtest

from dynapilco.report.page.html import Html, details, table, tag
from dynapilco.report.page.words import num, percent, plural, seconds, yes_no
from dynapilco.report.reading.run import Run
from dynapilco.tracking.sink import TrialRow
from dynapilco.tracking.summary import SOLVED_RATE

HEAD = (
    "trial", "steps so far", "return", "predicted", "success", "negative log density [nats]", "coverage, one step",
    "coverage, whole trial", "model [s]", "policy [s]", "acting [s]",
)  # fmt: skip


def answer(run: Run) -> Html:
    """The outcome in sentences, and as a table."""
    sentences, mood = verdict(run)
    sentences += calibration_words(run.rows)
    return tag(
        "div",
        tag("div", [tag("p", sentence) for sentence in sentences], class_=f"answer {mood}"),
        table([], facts(run), "The run in short"),
    )


def verdict(run: Run) -> tuple[list[str], str]:
    """What came out, and whether that is good: ``"good"``, ``"bad"`` or nothing."""
    last, summary = run.rows[-1], run.summary
    spent = _experience(last)
    if summary is None:
        text = f"Not finished: {plural(len(run.rows), 'trial')} so far ({spent}); the last return is {num(last.ret)}"
        done = "" if last.success is None else ", a success" if last.success else ", no success"
        return [f"{text}{done}."], ""
    returns = [r for r in summary.get("evaluation_returns") or [] if isinstance(r, int | float)]
    rate, delivered = summary.get("success_rate"), summary.get("delivered_trial")
    whose = "with planning" if delivered is None else f"with the policy of trial {delivered}"
    if rate is None or not returns:
        mean = num(sum(returns) / len(returns)) if returns else "unknown"
        where = f" ({num(min(returns))} to {num(max(returns))})" if returns else ""
        return [f"Mean return {mean}{where} in {plural(len(returns), 'fresh episode')} {whose}, after {spent}.",
                "The task has no success rule, so nothing says whether it is solved."], ""  # fmt: skip
    wins = round(rate * len(returns))
    interval = binomtest(wins, len(returns)).proportion_ci(method="wilson")
    word = "Solved" if rate >= SOLVED_RATE else "Not solved"
    ends = f"{percent(float(interval.low))} to {percent(float(interval.high))}"
    first = f"{word}: {wins} of {plural(len(returns), 'fresh episode')} succeed {whose}, after {spent}."
    second = f"95 % interval of that rate (Wilson): {ends}. It is one seed: another may end differently."
    return [first, second], "good" if rate >= SOLVED_RATE else "bad"


def calibration_words(rows: Sequence[TrialRow]) -> list[str]:
    """A sentence about coverage, averaged over the trials that have it."""
    parts = []
    for name, what in (("coverage_95_one_step", "one step ahead"), ("coverage_95_horizon", "of whole imagined trials")):
        found = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        if found:
            parts.append(f"{percent(sum(found) / len(found), 1)} {what} ({plural(len(found), 'trial')})")
    if not parts:
        return []
    return [f"The model's 95 % intervals held {' and '.join(parts)}; 95 % would be right, more is too cautious."]


def facts(run: Run) -> list[tuple[str, Any]]:
    """Rows of the first table."""
    summary, last = run.summary or {}, run.rows[-1]
    policy = [row for row in run.rows if not row.explored]
    first = next((row for row in policy if row.success), None)
    judged = [row for row in policy if row.success is not None]
    found: list[tuple[str, Any]] = [
        ("task", run.told("env_id")),
        ("inference", run.told("inference")),
        ("seed", run.told("seed")),
        ("trials", f"{len(run.rows)}, {len(run.rows) - len(policy)} of them exploration"),
        (
            "experience",
            f"{last.env_steps:,} steps" + ("" if last.env_seconds is None else f", {num(last.env_seconds)} s"),
        ),
        (
            "highest return",
            f"{num(max(row.ret for row in run.rows))} (trial {max(run.rows, key=lambda r: r.ret).trial})",
        ),
    ]
    if judged:
        found.append(("successful policy trials", f"{sum(bool(r.success) for r in judged)} of {len(judged)}"))
        found.append(("first success", f"trial {first.trial}, after {_experience(first)}" if first else "none"))
    wall = summary.get("wall_seconds")
    found.append(
        ("wall-clock", seconds(wall) if wall is not None else f"{seconds(sum(map(_seconds, run.rows)))} so far")
    )
    lost = sum(row.nan_rollouts or 0 for row in run.rows)
    found.append(("rollouts lost to bad numbers", f"{lost:,}"))
    return found


def trials_table(rows: Sequence[TrialRow]) -> Html:
    """All trials."""
    lines = [
        [
            f"{row.trial}{' (exploration)' if row.explored else ''}",
            f"{row.env_steps:,}",
            *(num(value, 4, keep_zeros=True) for value in (row.ret, row.predicted_return)),
            yes_no(row.success),
            num(row.model_nll, 4, keep_zeros=True),
            *(percent(share, 1) for share in (row.coverage_95_one_step, row.coverage_95_horizon)),
            *(num(spent, 3) for spent in (row.seconds_model, row.seconds_policy, row.seconds_env)),
        ]
        for row in rows
    ]
    return details("All trials as a table", table(HEAD, lines, "Trials"), open_=len(rows) <= 12)


def cost_words(run: Run) -> Html:
    """Where the time went, in a sentence."""
    model, policy, acting = (sum(getattr(row, f"seconds_{part}") or 0.0 for row in run.rows)
                             for part in ("model", "policy", "env"))  # fmt: skip
    engine = (run.summary or {}).get("engine")
    by = f"; rollouts were computed by the {engine} engine" if engine else ""
    return tag(
        "p", f"{seconds(model)} fitting models, {seconds(policy)} searching policies, {seconds(acting)} acting{by}."
    )


def trial_title(row: TrialRow) -> str:
    """A trial in one line."""
    parts = [f"return {num(row.ret)}"]
    if row.predicted_return is not None:
        parts.append(f"predicted {num(row.predicted_return)}")
    if row.success is not None:
        parts.append("success" if row.success else "no success")
    if row.coverage_95_horizon is not None:
        parts.append(f"coverage of the 95 % band {percent(row.coverage_95_horizon)}")
    return f"Trial {row.trial}: {', '.join(parts)}"


def _experience(row: TrialRow) -> str:
    steps = f"{row.env_steps:,} steps"
    return f"{steps} of experience" if row.env_seconds is None else f"{num(row.env_seconds)} s of experience ({steps})"


def _seconds(row: TrialRow) -> float:
    return (row.seconds_model or 0.0) + (row.seconds_policy or 0.0) + row.seconds_env
