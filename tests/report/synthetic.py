"""A comparison as ``dynapilco compare`` leaves it, with made-up numbers: methods that learn at their own pace."""

import csv
import json

import numpy as np

RUN_COLUMNS = (
    "task", "method", "seed", "status", "score", "success_rate", "first_success_trial", "trials", "env_steps",
    "wall_seconds", "peak_memory_mb", "error",
)  # fmt: skip
TRIAL_COLUMNS = (
    "task", "method", "seed", "trial", "env_steps", "env_seconds", "return", "predicted_return", "success", "explored",
    "model_nll", "coverage_95_one_step", "coverage_95_horizon", "nan_rollouts", "seconds_model", "seconds_policy",
    "seconds_env",
)  # fmt: skip
TASKS = ("dynapilco/CartPoleSwingUp-v0", "dynapilco/PendulumSwingUp-v0")
PACE = {"ensemble": 0.8, "random_features": 1.3, "mc_dropout": 0.25, "sac": 0.05, "sac@100x": 0.05}
STEPS = 60
GIF = bytes.fromhex("474946383961010001008000000000000000002c00000000010001000002024401003b")  # one white dot


def trials_of(task, method, seed, trials):
    rng = np.random.default_rng([seed, len(task), sum(map(ord, method))])
    model = method not in ("sac", "sac@100x")
    pace = PACE[method] * rng.uniform(0.6, 1.4)
    rows = []
    for trial in range(trials):
        explored = trial == 0
        good = 50 * (1 - np.exp(-pace * trial)) + rng.normal(0, 1.5)
        known = model and not explored
        rows.append({
            "task": task, "method": method, "seed": seed, "trial": trial, "env_steps": STEPS * (trial + 1),
            "env_seconds": 3.0 * (trial + 1), "return": good,
            "predicted_return": good + rng.normal(0, 2) if known else "",
            "success": "true" if good > 42 else "false", "explored": "true" if explored else "false",
            "model_nll": 5 * np.exp(-trial) - 8 + rng.normal(0, 0.3) if known else "",
            "coverage_95_one_step": min(1, rng.normal(0.95, 0.02)) if known else "",
            "coverage_95_horizon": min(1, rng.normal(0.9, 0.05)) if known else "",
            "nan_rollouts": 0 if known else "",
            "seconds_model": "" if explored else (rng.uniform(2, 9) if model else 0.0),
            "seconds_policy": "" if explored else rng.uniform(9, 20), "seconds_env": rng.uniform(0.02, 0.05),
        })  # fmt: skip
    return rows


def write(path, columns, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_comparison(folder, seeds=5, methods=tuple(PACE), tasks=TASKS, make_run=None, failed=(), missing=()):
    """Tables, settings and (where ``make_run`` builds them) run directories of the first task's first two methods."""
    folder.mkdir(parents=True, exist_ok=True)
    runs, trials = [], []
    for task in tasks:
        for method in methods:
            for seed in range(2 if method.endswith("x") else seeds):
                rows = trials_of(task, method, seed, 60 if method.endswith("x") else 6)
                last = [row["return"] for row in rows[-3:]]
                keys = {"task": task, "method": method, "seed": seed}
                first = next((row["trial"] for row in rows if row["success"] == "true"), "")
                if (task, method, seed) in failed:
                    runs.append(
                        {**keys, "status": "failed", "trials": 0, "env_steps": 0, "error": "ValueError: <b>bad</b>"}
                    )
                    continue
                if (task, method, seed) in missing:
                    runs.append({**keys, "status": "missing", "trials": 0, "env_steps": 0})
                    continue
                trials += rows
                runs.append({
                    **keys, "status": "done", "score": float(np.mean(last)), "success_rate": float(last[-1] > 42),
                    "first_success_trial": first, "trials": len(rows), "env_steps": rows[-1]["env_steps"],
                    "wall_seconds": 100.0 + seed, "peak_memory_mb": 400.0 + 10 * seed, "error": "",
                })  # fmt: skip
    write(folder / "runs.csv", RUN_COLUMNS, runs)
    write(folder / "trials.csv", TRIAL_COLUMNS, trials)
    document = {
        "format_version": 1, "begun": "2026-01-02T03:04:05+00:00", "resumed": [],
        "command": "dynapilco compare --env-id A B --inference ensemble random_features --seeds 5 --out runs/compare",
        "tasks": list(tasks), "methods": list(methods), "seeds": list(range(seeds)), "versions": {"dynapilco": "0.1.0"},
    }  # fmt: skip
    (folder / "compare.json").write_text(json.dumps(document, indent=1))
    for method in methods[:2] if make_run else ():
        for seed in range(seeds):
            run = make_run(
                folder / "runs" / tasks[0].replace("/", "-") / method / f"seed-{seed}", trials=6, video=False
            )
            (run / "videos").mkdir()
            (run / "videos/trial-05.gif").write_bytes(GIF)
    return folder
