"""What makes policy search succeed, with the model out of the question.

    python experiments/search_ablation.py --env-id dynapilco/CartPoleSwingUpPILCO-v0 --candidates 12

An ensemble of three networks is fitted to 4,000 transitions spread evenly over the state space (far more than a run
ever sees), so that what is left is the search. For each setting, fresh candidates are trained side by side, no halving,
and each is then tried in five real episodes. Every candidate counts.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynapilco.agent.episode import run_episode
from dynapilco.core.intervals import wilson_interval
from dynapilco.core.seeding import derive, numpy_generator, torch_generator
from dynapilco.dynamics import DynamicsConfig, DynamicsDraw, DynamicsModel, Transitions
from dynapilco.inference import make_method
from dynapilco.policies import Policy, make_policy
from dynapilco.search import Imagination, PathwiseSearch, SearchConfig
from dynapilco.tasks import Task, make_env, task_of

RANGES = {2: (6.3, 10.0), 4: (2.5, 5.0, 5.0, 14.0)}
"""Largest absolute value of each state column in the training data, by number of columns."""
SCALES = {2: (1.0, 0.3), 4: (1.0, 0.4, 1.0, 0.15)}
ROWS, FIT_STEPS, EPISODES = 4_000, 2_500, 5

UNDAMPED = {"credit_seconds": (0.0,), "adjoint_limit": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "default (0.5 s and 2 s in turn, to 0.5 s)": {"final_credit_seconds": 0.5},
    "damped, 1 s to 0.5 s": {"credit_seconds": (1.0,), "final_credit_seconds": 0.5},
    "damped, 2 s to 0.5 s": {"credit_seconds": (2.0,), "final_credit_seconds": 0.5},
    "damped, 0.5 s": {"credit_seconds": (0.5,)},
    "damped, 0.25 s": {"credit_seconds": (0.25,)},
    "damped, 1 s": {"credit_seconds": (1.0,)},
    "damped, 2 s": {"credit_seconds": (2.0,)},
    "undamped": UNDAMPED,
    "decay 0.5 s, no limit": {"credit_seconds": (0.5,), "adjoint_limit": 0.0},
    "limit 30, no decay": {"credit_seconds": (0.0,)},
    "decay 0.5 s, limit 10": {"credit_seconds": (0.5,), "adjoint_limit": 10.0},
    "decay 0.5 s, limit 100": {"credit_seconds": (0.5,), "adjoint_limit": 100.0},
    "damped 0.5 s, wide reward first": {"credit_seconds": (0.5,), "initial_reward_power": 0.1},
    "undamped, wide reward first": {**UNDAMPED, "initial_reward_power": 0.1},
    "undamped, wide, common random numbers": {**UNDAMPED, "initial_reward_power": 0.1, "refresh_every": 200},
    "undamped, wide, moment matching": {**UNDAMPED, "initial_reward_power": 0.1, "moment_matching": True},
    "damped 0.5 s, wide, moment matching": {
        "credit_seconds": (0.5,),
        "initial_reward_power": 0.1,
        "moment_matching": True,
    },
    "undamped, no action noise": {**UNDAMPED, "action_noise": 0.0},
    "damped 0.5 s, no action noise": {"credit_seconds": (0.5,), "action_noise": 0.0},
}


def main() -> None:
    """Print one line for each setting and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-id", default="dynapilco/CartPoleSwingUpPILCO-v0")
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), help="some of the settings, by name")
    parser.add_argument("--table", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, task = fit_known(arguments.env_id, arguments.seed)
    rows = []
    for name in arguments.settings:
        rows.append(measure(name, model, task, arguments.env_id, arguments.candidates, arguments.seed))
        if arguments.table is not None:
            with arguments.table.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def fit_known(env_id: str, seed: int) -> tuple[DynamicsModel, Task]:
    """A model of the whole state space."""
    env = make_env(env_id)
    task = task_of(env)
    generator = numpy_generator(seed, "known-dynamics")
    limit = np.array(RANGES[task.geometry.states])
    env.reset(seed=0)
    base = env.unwrapped
    states = generator.uniform(-limit, limit, (ROWS, len(limit)))
    actions = generator.uniform(task.low, task.high, (ROWS, len(task.low))).astype(np.float32)
    following = np.empty_like(states)
    for i in range(ROWS):
        base.state = states[i].copy()
        base.step(actions[i])
        following[i] = base.state
    x, u, y = (torch.as_tensor(a, dtype=torch.float32) for a in (states, actions, following))
    data = Transitions(x, u, y, torch.zeros(ROWS), torch.zeros(ROWS, dtype=torch.int64))
    method = make_method("ensemble", {"members": 3, "cold_steps": FIT_STEPS})
    model = DynamicsModel(task.geometry, DynamicsConfig(hidden=(96, 96)), method, torch.device("cpu"))
    clock = time.perf_counter()
    model.fit(data, torch_generator(seed, "known-dynamics"))
    print(f"{env_id}: model fitted in {time.perf_counter() - clock:.0f} s", flush=True)
    return model, task


def measure(
    name: str, model: DynamicsModel, task: Task, env_id: str, candidates: int, seed: int
) -> dict[str, str | int | float]:
    """Train ``candidates`` fresh policies under one setting and try each for real."""
    options = dict(SETTINGS[name])
    moment_matching = bool(options.pop("moment_matching", False))
    options = {"final_credit_seconds": 0.0, **options}
    config = SearchConfig(fresh_starts=candidates, survivors=candidates, **options)  # pyright: ignore[reportArgumentType]

    def sample(generator: torch.Generator) -> DynamicsDraw:
        return model.draw(3, generator)

    bounds = torch.as_tensor(task.low), torch.as_tensor(task.high)
    scale = torch.tensor(SCALES[task.geometry.states])
    policy = make_policy("MlpPolicy", None, task.geometry, *bounds, scale)
    search = PathwiseSearch(
        policy, Imagination(task, sample, 53, moment_matching), config, torch_generator(seed, "search")
    )
    clock = time.perf_counter()
    predicted = search.run(None).returns
    seconds = time.perf_counter() - clock
    real = [try_policy(policy, params, task, env_id, seed) for params in search.candidates.params.detach()]
    wins = sum(successes == EPISODES for _, successes in real)
    low, high = wilson_interval(wins, candidates)
    row: dict[str, str | int | float] = {
        "setting": name,
        "succeed": wins,
        "candidates": candidates,
        "wilson_low": round(low, 3),
        "wilson_high": round(high, 3),
        "median_predicted_return": round(float(np.median(predicted)), 2),
        "median_real_return": round(float(np.median([r for r, _ in real])), 2),
        "best_real_return": round(max(r for r, _ in real), 2),
        "seconds_a_candidate": round(seconds / candidates, 2),
    }
    print(line(row), flush=True)
    return row


def line(row: dict[str, str | int | float]) -> str:
    """One line of the printed table."""
    return (
        f"{row['setting']:34s} {row['succeed']:>3}/{row['candidates']} succeed in all {EPISODES} real episodes "
        f"({row['wilson_low']:.0%}-{row['wilson_high']:.0%}); return: median predicted "
        f"{row['median_predicted_return']}, median real {row['median_real_return']}, best {row['best_real_return']}"
    )


def try_policy(policy: Policy, params: torch.Tensor, task: Task, env_id: str, seed: int) -> tuple[float, int]:
    """Mean return and number of successes over real episodes."""
    env = task.flat(make_env(env_id))

    def control(observation: np.ndarray, _: int) -> np.ndarray:
        with torch.no_grad():
            return policy.act(params, torch.as_tensor(observation).unsqueeze(0))[0].numpy()

    episodes = [run_episode(env, control, derive(seed, "ablation", i) % 2**31, task.horizon) for i in range(EPISODES)]
    assert task.success is not None
    wins = sum(bool(task.success(episode.states, np)) for episode in episodes)
    return float(np.mean([episode.rewards.sum() for episode in episodes])), wins


if __name__ == "__main__":
    main()
