"""A cell of the table: one method on one data set, tuned on inner splits, then scored on all test splits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from uci_parts.configs import Config
from uci_parts.scores import METRICS, Outcome, run
from uci_parts.splits import Source, Splits
from uci_parts.store import Row, Store

from dynapilco.inference.fitting import Callback

SEED = 0

Progress = Callable[[str], Callback]


@dataclass(frozen=True)
class Cell:
    """What there is to do for one method on one data set.

    Attributes
    ----------
    configs : sequence of Config
        The first one is what an untuned cell uses.
    tune : bool
        Choose among all. Otherwise, and where there is one only, the cell is marked as untuned.
    """

    method: str
    source: Source
    configs: Sequence[Config]
    tune: bool = True

    def run(self, store: Store, progress: Progress) -> bool:
        """Do what is missing; False where everything was there."""
        fresh = self._tune(store, progress) if self.tune else False
        chosen = self.choose(store) if self.tune else self.configs[0]
        kept = store.test_rows(self.source.name, self.method)
        text = chosen.text(self.method, self.source.name)
        if len(kept) == len(self.source.tests) and all(
            row["settings"] == text and row["tuned"] == self._tuned for row in kept
        ):
            return fresh
        data = self.source.outer()
        outcome = run(self._settings(chosen), data, SEED, callback=progress(f"test {chosen.name}"))
        store.put_test(self._test_rows(chosen, data, outcome))
        return True

    @property
    def _tuned(self) -> str:
        return str(self.tune and len(self.configs) > 1)

    def choose(self, store: Store) -> Config:
        """The configuration of the lowest mean inner NLL; diverged ones do not count."""

        def inner(config: Config) -> float:
            row = store.inner_row(self.source.name, self.method, config.text(self.method, self.source.name))
            assert row is not None
            nll = float(row["nll"])
            return math.inf if row["diverged"] == "True" or math.isnan(nll) else nll

        return min(self.configs, key=inner)

    def _tune(self, store: Store, progress: Progress) -> bool:
        fresh, data = False, None
        for config in self.configs:
            text = config.text(self.method, self.source.name)
            if store.inner_row(self.source.name, self.method, text) is not None:
                continue
            data = data or self.source.inner()
            outcome = run(self._settings(config), data, SEED, callback=progress(f"inner {config.name}"))
            store.put_inner(self._inner_row(config, outcome))
            fresh = True
        return fresh

    def _settings(self, config: Config) -> dict:
        return config.settings(self.method, self.source.name)

    def _common(self, config: Config, outcome: Outcome) -> Row:
        return {
            "dataset": self.source.name, "method": self.method, "config": config.name,
            "settings": config.text(self.method, self.source.name), "diverged": str(outcome.diverged),
            "seconds": f"{outcome.seconds:.3f}",
        }  # fmt: skip

    def _inner_row(self, config: Config, outcome: Outcome) -> Row:
        means = {m: f"{np.mean([getattr(s, m) for s in outcome.scores]):.5f}" for m in METRICS}
        each = " ".join(f"{s.nll:.4f}" for s in outcome.scores)
        return {**self._common(config, outcome), **means, "nll_by_split": each}

    def _test_rows(self, config: Config, data: Splits, outcome: Outcome) -> list[Row]:
        common = {**self._common(config, outcome), "tuned": self._tuned}
        rows = []
        for number, one in zip(data.numbers, outcome.scores, strict=True):
            values = {f.name: f"{getattr(one, f.name):.6g}" for f in fields(one)}
            rows.append({**common, "split": str(number), **values})
        return rows
