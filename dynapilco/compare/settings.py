"""What is compared: tasks, methods, seeds, budgets, and the configuration of every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from dynapilco.agent.config import AgentConfig
from dynapilco.agent.config_file import as_of_old, config_values, resolve_options
from dynapilco.compare.algorithms import check_algorithm, check_options
from dynapilco.compare.stats.anchors import check_anchors
from dynapilco.compare.variants import check_variants
from dynapilco.core.errors import UserError
from dynapilco.inference import METHODS
from dynapilco.tasks import make_env, task_of


@dataclass(frozen=True)
class Request:
    """What a user asks for, on the command line or in a file's table ``[compare]``; empty where nothing is said."""

    env_id: tuple[str, ...] = ()
    """Gymnasium ids of the tasks."""
    inference: tuple[str, ...] = ()
    """Inference methods: what is compared."""
    seeds: tuple[int, ...] = ()
    """One number: so many seeds, from first_seed on. Several: these seeds."""
    first_seed: int | None = None
    """First seed where seeds is a number of seeds (0)."""
    trials: int | None = None
    """Trials of each run, whatever their length; otherwise total_timesteps says how long a run is."""
    baselines: tuple[str, ...] = ()
    """Model-free algorithms of stable-baselines3 beside them: sac, ppo, td3, ddpg, a2c, dqn."""
    baseline_budget: tuple[int, ...] = ()
    """Environment steps of a baseline as multiples of a run's (1); each is a method of its own, as sac@100x."""
    baseline_seeds: tuple[int, ...] = ()
    """Number of seeds of a baseline, the first of the list; one for all budgets, or one for each."""
    inference_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options by method."""
    baseline_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options by algorithm."""
    imagined: tuple[str, ...] = ()
    """Algorithms of stable-baselines3 trained inside the learned model, as methods beside the others: sac-in-model."""
    variants: dict[str, Any] = field(default_factory=dict)
    """Further methods: name -> settings of a run that differ, such as inference, inference_kwargs or controller."""
    anchors: dict[str, Any] = field(default_factory=dict)
    """Task -> [score that counts 0, score that counts 1] of the normalised score, before the documented ones."""

    def over(self, other: Request) -> Request:
        """Merge two requests: the other's values where this one says nothing."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in said.items() if value not in ((), None, {})})

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Request:
        """The table of a file; a single value may stand for a list of one."""
        lists = {f.name for f in fields(cls) if f.default == ()}
        values = {k: [v] if k in lists and not isinstance(v, list | tuple) else v for k, v in table.items()}
        return cls(**resolve_options(cls, "compare", values))


@dataclass(frozen=True)
class Baseline:
    """A model-free algorithm at one budget."""

    algorithm: str
    budget: int
    seeds: tuple[int, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """``sac``, or ``sac@100x`` at another budget than a run's."""
        return self.algorithm if self.budget == 1 else f"{self.algorithm}@{self.budget}x"


@dataclass(frozen=True)
class Settings:
    """A checked comparison.

    Attributes
    ----------
    tasks, methods : tuple of str
    seeds : tuple of int
    configs : dict
        Task -> method -> the run's configuration as plain values, without its seed.
    horizons, budget : dict
        Task -> steps of a trial, and environment steps of a run: whole trials.
    baselines : tuple of Baseline
    anchors : dict
        Task -> [low, high] that the user gave; how runs are judged, not what they are.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    configs: dict[str, dict[str, dict[str, Any]]]
    horizons: dict[str, int]
    budget: dict[str, int]
    baselines: tuple[Baseline, ...] = ()
    anchors: dict[str, list[float]] = field(default_factory=dict)

    @property
    def all_methods(self) -> list[str]:
        """Methods, then baselines."""
        return [*self.methods, *(baseline.name for baseline in self.baselines)]

    def values(self) -> dict[str, Any]:
        """As JSON holds them."""
        return asdict(self)

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of :meth:`values`."""
        lists = {name: tuple(values[name]) for name in ("tasks", "methods", "seeds")}
        baselines = tuple(Baseline(**{**b, "seeds": tuple(b["seeds"])}) for b in values["baselines"])
        configs = {
            task: {method: as_of_old(config) for method, config in methods.items()}
            for task, methods in values["configs"].items()
        }
        rest = {name: values[name] for name in ("horizons", "budget")}
        return cls(**lists, configs=configs, **rest, baselines=baselines, anchors=values.get("anchors", {}))


Resolve = Callable[[Mapping[str, Any]], AgentConfig]
"""From the plain values of a file to a configuration, with whatever else the user said."""


def build_settings(request: Request, file: Mapping[str, Any], resolve: Resolve) -> Settings:
    """Everything that a comparison is, checked.

    Parameters
    ----------
    request : Request
        On top of that of the file.
    file : mapping
        Settings of a run, as in a file.
    resolve : callable

    Raises
    ------
    UserError
        For duplicates, unknown names, environments and options, and numbers that cannot be meant.
    """
    tasks = request.env_id or (str(file.get("env_id", AgentConfig.env_id)),)
    default = METHODS.canonical(str(file.get("inference", AgentConfig.inference)))
    plain = tuple(METHODS.canonical(name) for name in request.inference)
    first = plain[0] if plain else default
    if not plain and not request.variants:
        plain = (default,)
    variants = check_variants(request.variants, request.imagined, first)
    methods = (*plain, *variants)
    seeds = _seeds(request)
    _no_duplicates("env_id", [task.rpartition(":")[2] for task in tasks])
    _no_duplicates("inference", methods)
    _at_least_one("trials", request.trials)
    for owner in request.inference_kwargs:
        if METHODS.canonical(owner) not in plain:
            raise UserError(f"inference_kwargs.{owner}: expected the options of one of {', '.join(plain)}")
    configs: dict[str, dict[str, dict[str, Any]]] = {}
    horizons, budget = {}, {}
    for task in tasks:
        found = {m: _config(task, m, file, request, resolve) for m in plain}
        found |= {name: _variant(task, name, values, file, request, resolve) for name, values in variants.items()}
        horizons[task], space = _look_at(task, found[methods[0]].env_kwargs)
        steps = found[methods[0]].total_timesteps if request.trials is None else request.trials * horizons[task]
        budget[task] = -(-steps // horizons[task]) * horizons[task]
        configs[task] = {m: _values(config, steps) for m, config in found.items()}
        for algorithm in (*request.baselines, *request.imagined):
            check_algorithm(algorithm, space, task)
    for task in request.anchors:
        if task not in tasks:
            raise UserError(f"anchors[{task!r}]: expected one of the tasks, {', '.join(tasks)}")
    anchors = {task: [pair.low, pair.high] for task, pair in check_anchors(request.anchors).items()}
    return Settings(tasks, methods, seeds, configs, horizons, budget, _baselines(request, seeds), anchors)


def _config(task: str, method: str, file: Mapping[str, Any], request: Request, resolve: Resolve) -> AgentConfig:
    """The configuration of one method on one task; options of the file that belong to another are left out."""
    values = {name: value for name, value in file.items() if name != "compare"}
    theirs = METHODS.canonical(str(values.get("inference", AgentConfig.inference))) == method
    options = dict(values.get("inference_kwargs", {})) if theirs else {}
    for owner, given in request.inference_kwargs.items():
        if METHODS.canonical(owner) == method:
            if not isinstance(given, Mapping):
                raise UserError(f"inference_kwargs.{owner}={given!r}: expected a table")
            options |= given
    if values.get("env_id", AgentConfig.env_id) != task:
        values.pop("env_kwargs", None)
    try:
        return resolve({**values, "env_id": task, "inference": method, "inference_kwargs": options})
    except UserError as error:
        raise UserError(f"{method} on {task}: {error}") from error


def _variant(
    task: str, name: str, own: Mapping[str, Any], file: Mapping[str, Any], request: Request, resolve: Resolve
) -> AgentConfig:
    """The configuration of a variant: that of its inference method, and what differs on top of it."""
    own, merged = dict(own), dict(file)
    method, options = METHODS.canonical(own.pop("inference")), own.pop("inference_kwargs", {})
    for key, value in own.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    kwargs = {m: o for m, o in request.inference_kwargs.items() if METHODS.canonical(m) != method}
    before = next((o for m, o in request.inference_kwargs.items() if METHODS.canonical(m) == method), {})
    try:
        return _config(
            task, method, merged, replace(request, inference_kwargs={**kwargs, method: before | options}), resolve
        )
    except UserError as error:
        raise UserError(f"variants.{name}: {error}") from error


def _values(config: AgentConfig, steps: int) -> dict[str, Any]:
    values = config_values(replace(config, total_timesteps=steps))
    del values["seed"]
    return values


def _look_at(task: str, env_kwargs: dict[str, Any]) -> tuple[int, Any]:
    """Steps of a trial and the action space: also the proof that the environment can be used."""
    env = make_env(task, env_kwargs)
    try:
        return task_of(env).horizon, env.action_space
    finally:
        env.close()


def _seeds(request: Request) -> tuple[int, ...]:
    """The seeds that are meant."""
    given = request.seeds or (1,)
    first = 0 if request.first_seed is None else request.first_seed
    if first < 0 or min(given) < 0:
        raise UserError(f"seeds={list(given)!r}, first_seed={first!r}: expected seeds of 0 or more")
    if len(given) == 1:
        _at_least_one("seeds", given[0])
        return tuple(range(first, first + given[0]))
    if request.first_seed is not None:
        raise UserError(f"first_seed={first!r}: expected none beside a list of seeds, {list(given)!r}")
    _no_duplicates("seeds", given)
    return given


def _baselines(request: Request, seeds: tuple[int, ...]) -> tuple[Baseline, ...]:
    _no_duplicates("baselines", request.baselines)
    budgets = request.baseline_budget or (1,)
    _no_duplicates("baseline_budget", budgets)
    for name in ("baseline_budget", "baseline_seeds"):
        for value in getattr(request, name):
            _at_least_one(name, value)
        if getattr(request, name) and not request.baselines:
            raise UserError(f"{name}={list(getattr(request, name))!r}: expected baselines to go with it")
    counts = request.baseline_seeds or (len(seeds),)
    counts = counts * len(budgets) if len(counts) == 1 else counts
    if len(counts) != len(budgets):
        raise UserError(f"baseline_seeds={list(counts)!r}: expected one number, or one for each of {list(budgets)!r}")
    if max(counts) > len(seeds):
        raise UserError(f"baseline_seeds={list(counts)!r}: expected at most the {len(seeds)} seeds of the methods")
    for owner in request.baseline_kwargs:
        if owner not in request.baselines:
            raise UserError(f"baseline_kwargs.{owner}: expected the options of one of {list(request.baselines)!r}")
    options = {name: check_options(name, request.baseline_kwargs.get(name, {})) for name in request.baselines}
    pairs = zip(budgets, counts, strict=True)
    return tuple(Baseline(name, b, seeds[:n], options[name]) for b, n in pairs for name in request.baselines)


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UserError(f"{name}={value!r}: expected at least 1")


def _no_duplicates(name: str, given: Sequence[Any]) -> None:
    twice = sorted({str(value) for value in given if list(given).count(value) > 1})
    if twice:
        raise UserError(f"{name}: {', '.join(twice)} given twice: expected each once")
