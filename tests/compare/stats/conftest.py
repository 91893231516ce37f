import numpy as np
import pandas as pd
import pytest
from scipy import stats

LEVELS = {"good": 0.9, "same": 0.9, "bad": 0.2}


def make_tables(seeds=10, tasks=("A-v0", "B-v0"), methods=("good", "bad"), trials=5, normalised=True):
    """Runs and trials in which success comes at trial 2 (good, same) or at the last (bad, every other seed)."""
    rng, runs, rows = np.random.default_rng(0), [], []
    for task in tasks:
        for method in methods:
            # the same normal scores for all methods of one level, in another order
            noise = rng.permutation(stats.norm.ppf((np.arange(seeds) + 0.5) / seeds))
            for seed in range(seeds):
                score = float(np.clip(LEVELS[method] + 0.05 * noise[seed], 0, 1))
                first = 2 if LEVELS[method] > 0.5 else (trials - 1 if seed % 2 else np.nan)
                head = {"task": task, "method": method, "seed": seed}
                run = {"status": "done", "score": 100 * score, "success_rate": round(20 * score) / 20}
                run |= {"normalised": score} if normalised else {}
                run |= {"first_success_trial": first, "trials": trials, "env_steps": 60 * trials}
                runs.append(head | run | {"wall_seconds": 50 + rng.normal(), "peak_memory_mb": 300.0})
                for trial in range(trials):
                    row = {
                        "trial": trial,
                        "env_steps": 60 * (trial + 1),
                        "return": score * trial,
                        "explored": trial == 0,
                    }
                    row |= {"success": bool(trial and trial >= first), "model_nll": rng.normal() if trial else np.nan}
                    row |= {"coverage_95_one_step": rng.uniform(0.9, 1) if trial else np.nan, "seconds_model": 1.0}
                    rows.append(head | row)
    return pd.DataFrame(runs), pd.DataFrame(rows)


@pytest.fixture
def tables():
    return make_tables()


@pytest.fixture
def make():
    return make_tables
