"""The report: a page of tables, made from the CSV files and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from uci_parts.configs import configs_of
from uci_parts.published import BARS, PUBLISHED, best_published
from uci_parts.scores import METRICS
from uci_parts.statistics import column, mean_of, named_method, paired_tests
from uci_parts.store import Row, Store, read

HEADS = {
    "nll": "NLL", "nll_gaussian": "NLL, matched Gaussian", "rmse": "RMSE", "crps": "CRPS", "coverage": "95 % coverage"
}  # fmt: skip


def write_report(store: Store, path: Path) -> None:
    """Write the page; nothing where there are no results."""
    inner, test = read(store.inner), read(store.test)
    if not test:
        return
    datasets = sorted({row["dataset"] for row in test})
    named = named_method([row for row in inner if _listed(row)], datasets)
    parts = [_head(named), _bars(test, datasets), _named(test, datasets, named)]
    parts += [_dataset(test, dataset, named) for dataset in datasets]
    parts.append(_inner(inner, test, datasets))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text("\n".join(part for part in parts if part), encoding="utf-8")
    temporary.replace(path)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _head(named: str | None) -> str:
    words = f"`{named}`" if named else "none yet: no method is tuned on all data sets"
    return (
        "# UCI regression\n\nWritten by `experiments/uci.py` from [inner.csv](uci/inner.csv) and"
        " [test.csv](uci/test.csv) (a row for each split). [Protocol](../reference/uci.md): 20 standard splits, one"
        " hidden layer of 50 ReLU units, one noise scale; mean ± standard error over the splits; NLL in nats, all in"
        " the units of the data. Lower is better but for coverage.\n\n"
        f"Method named by its NLL on inner splits, summed over the data sets, before any test row: **{words}**.\n"
    )


def _bars(test: Sequence[Row], datasets: Sequence[str]) -> str:
    rows = []
    for method, label in BARS.items():
        for dataset in datasets:
            bar, cells = PUBLISHED[label].get(dataset), []
            for name in ("nll", "nll_gaussian"):
                values = column(test, dataset, name).get(method)
                if values is not None and bar is not None:
                    mean = mean_of(values)
                    cells += [mean, _verdict(mean.value, bar, mean.error)]
            if cells:
                rows.append((f"`{method}`", dataset, f"{bar:.2f}", *cells))
    head = ("method", "data", "published", HEADS["nll"], "reached", HEADS["nll_gaussian"], "reached")
    return (
        "## Published figures of the same method\n\nReached: mean <= published + our standard error. Published are,"
        " for deep ensembles, the matched Gaussian's, for dropout the mixture's.\n\n" + _table(head, rows)
    )


def _verdict(value: float, bar: float, error: float) -> str:
    if value < bar:
        return "yes, below"
    return "yes, within" if value <= bar + error else f"**no**, by {value - bar - error:.3f}"


def _named(test: Sequence[Row], datasets: Sequence[str], named: str | None) -> str:
    rows = []
    for dataset in datasets:
        values = column(test, dataset, "nll").get(named or "")
        if values is not None and dataset in PUBLISHED["PBP"]:
            mean, best = mean_of(values), best_published(dataset)
            matched = mean_of(column(test, dataset, "nll_gaussian")[named or ""])
            rows.append((dataset, mean, matched, f"{best:.2f}", "yes" if mean.value < best else "**no**"))
    if not rows:
        return ""
    head = ("data", f"NLL of `{named}`", HEADS["nll_gaussian"], "best published", "NLL below it")
    return "## The named method beside all published columns\n\n" + _table(head, rows)


def _dataset(test: Sequence[Row], dataset: str, named: str | None) -> str:
    metrics = {name: column(test, dataset, name) for name in (*METRICS, "seconds")}
    nll = metrics["nll"]
    reference = named if named in nll else None
    tests = paired_tests(nll, reference) if reference else {}
    tuned = {row["method"]: row["tuned"] == "True" for row in test if row["dataset"] == dataset}
    rows = []
    for method in sorted(nll, key=lambda m: mean_of(nll[m]).value):
        cells = [mean_of(metrics[name][method]) for name in METRICS]
        p = tests.get(method)
        beside = f"{p.difference.value:+.3f}, p {p.t_test:.1g} / {p.wilcoxon:.1g}" if p else "reference"
        name = f"**`{method}`**" if method == named else f"`{method}`"
        mark = "" if tuned[method] else " (untuned)"
        rows.append((name + mark, *cells, f"{metrics['seconds'][method][0]:.2f}", beside if reference else ""))
    head = ("method", *(HEADS[m] for m in METRICS), "seconds a split", "NLL beside the named one")
    published = ", ".join(f"{k} {v[dataset]:.2f}" for k, v in PUBLISHED.items() if dataset in v)
    tail = f"\nPublished NLL: {published}.\n" if published else ""
    splits = max(len(v) for v in nll.values())
    return f"## {dataset}, {splits} splits\n\n{_table(head, rows)}{tail}"


def _listed(row: Row) -> bool:
    """Whether the configuration is in the list of its method still."""
    dataset, method = row["dataset"], row["method"]
    return row["settings"] in {config.text(method, dataset) for config in configs_of(method, dataset)}


def _inner(inner: Sequence[Row], test: Sequence[Row], datasets: Sequence[str]) -> str:
    chosen = {(row["dataset"], row["method"], row["settings"]) for row in test}
    rows = []
    for row in inner:
        if row["dataset"] not in datasets:
            continue
        nll = "diverged" if row["diverged"] == "True" else f"{float(row['nll']):.3f}"
        bold = (row["dataset"], row["method"], row["settings"]) in chosen
        name = row["config"] if _listed(row) else f"{row['config']} (withdrawn)"
        rows.append((row["dataset"], f"`{row['method']}`", name, f"**{nll}**" if bold else nll,
                     f"{float(row['seconds']):.2f}", f"`{_short(row['settings'])}`"))  # fmt: skip
    head = ("data", "method", "configuration", "inner NLL", "seconds a split", "settings")
    words = "Chosen ones in bold. Withdrawn ones were tried and are no longer in the list of their method."
    return f"## Configurations tried on inner splits\n\n{words}\n\n" + _table(head, rows)


def _short(settings: str) -> str:
    """The settings in a few words."""
    parts = json.loads(settings)
    words = [f"{k}={v}" for k, v in parts["options"].items()]
    for kind in ("likelihood", "prior"):
        options = ", ".join(f"{k}={v}" for k, v in parts[f"{kind}_options"].items())
        words.append(f"{parts[kind]}({options})")
    return ", ".join(words)
