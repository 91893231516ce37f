"""UCI regression: every inference method in one table, on the standard splits.

    python experiments/uci.py --data-dir DIR
    python experiments/uci.py --data-dir DIR --methods ensemble hmc --datasets boston wine
    python experiments/uci.py --report

``DIR`` holds ``boston``, ``concrete``, ``power`` and ``wine``, each as ``NAME.csv`` (a header, target column ``y``) and
``NAME.splits.json`` ({"test": [[row, ...], ...]}). For each method and data set at most eight configurations are tried
on inner 80/20 splits of the training rows of five splits; the best by mean NLL is fitted to all splits and scored on
their test rows. Resumable: what is in the tables of ``--out`` is not computed again. One process, one thread.
Protocol: docs/reference/uci.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from uci_parts.cells import Cell
from uci_parts.configs import MOST, configs_of
from uci_parts.report import write_report
from uci_parts.splits import Source
from uci_parts.store import Store

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.inference import METHODS
from dynapilco.inference.fitting import Callback

DATASETS = ("boston", "concrete", "power", "wine")


def main() -> None:
    """Compute what is missing, then write the report."""
    arguments = parse()
    torch.set_num_threads(1)
    store = Store(arguments.out)
    if not arguments.report:
        methods = [METHODS.canonical(name) for name in arguments.methods or METHODS]
        run_cells(arguments.data_dir, methods, arguments.datasets, store, tune=not arguments.untuned)
    write_report(store, arguments.text)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets and their splits (never written to)")
    parser.add_argument("--methods", nargs="+", help="names of inference methods; default: all")
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument("--out", type=Path, default=Path("docs/results/uci"), help="folder of the tables")
    parser.add_argument("--text", type=Path, default=Path("docs/results/uci.md"), help="the report")
    parser.add_argument("--untuned", action="store_true", help="take each method's first configuration; marked")
    parser.add_argument("--report", action="store_true", help="only write the report from the tables")
    arguments = parser.parse_args()
    if arguments.data_dir is None and not arguments.report:
        parser.error("--data-dir is needed to compute anything")
    return arguments


def run_cells(folder: Path, methods: Sequence[str], datasets: Sequence[str], store: Store, *, tune: bool) -> None:
    """All cells that are not finished, one after another."""
    sources = {name: open_source(folder, name) for name in datasets}
    for dataset, source in sources.items():
        for method in methods:
            configs = configs_of(method, dataset)
            if len(configs) > MOST:
                raise UserError(f"{method} on {dataset}: {len(configs)} configurations, expected at most {MOST}")
            began = time.perf_counter()
            fresh = Cell(method, source, configs, tune).run(store, progress_of(f"{dataset} {method}"))
            done = f"{time.perf_counter() - began:.0f} s" if fresh else "kept"
            print(f"{dataset} {method}: {done}", flush=True)


def open_source(folder: Path, name: str) -> Source:
    """The data set ``name``, or an error that lists those of the folder."""
    if not (folder / f"{name}.csv").is_file():
        raise unknown_name("data set", name, sorted(path.stem for path in folder.glob("*.csv")))
    return Source(folder, name)


def progress_of(cell: str) -> Callable[[str], Callback]:
    """A progress bar for each fit of a cell."""

    def start(stage: str) -> Callback:
        bar: list[tqdm] = []

        def show(done: int, steps: int, metrics: dict[str, float]) -> None:
            if not bar:
                bar.append(tqdm(total=steps, desc=f"{cell}, {stage}", leave=False, mininterval=2.0, disable=None))
            bar[0].update(done - bar[0].n)
            if done == steps:
                bar[0].close()

        return show

    return start


if __name__ == "__main__":
    main()
