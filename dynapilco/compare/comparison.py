"""``compare.run``: make or go on with a comparison, and say what came out."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
from rich.console import Console

from dynapilco.agent.config import AgentConfig
from dynapilco.agent.config_file import build_config, read_toml
from dynapilco.compare import folder as folders
from dynapilco.compare.closing import NOTE, closing_tables, failure_sentences
from dynapilco.compare.folder import Folder, Job
from dynapilco.compare.inferred import infer
from dynapilco.compare.pool import Pool
from dynapilco.compare.settings import Request, Settings, build_settings
from dynapilco.compare.supervise import Order, handed_on
from dynapilco.compare.tables import collect, load
from dynapilco.compare.watch import Watcher
from dynapilco.core.atomic import write_atomically
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import make_console
from dynapilco.tracking.summary import versions

DEFAULT_OUT = Path("runs/compare")


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes
    ----------
    out : Path
    runs, trials : DataFrame
        See :func:`dynapilco.compare.load`.
    sentences : tuple of str
        What the figures say, in words.
    """

    out: Path
    runs: pd.DataFrame
    trials: pd.DataFrame
    sentences: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every run came to its end."""
        return bool((self.runs["status"] == "done").all())


def run(
    env_id: str | Sequence[str] = (),
    inference: str | Sequence[str] = (),
    seeds: int | Sequence[int] = (),
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    out: str | Path = DEFAULT_OUT,
    resume: bool = False,
    force: bool = False,
    jobs: int = 1,
    backend: str = "loky",
    address: str | None = None,
    job_cpus: float = 1.0,
    job_gpus: float = 0.0,
    train_options: Sequence[str] = ("--no-video",),
    quiet: bool = False,
    settings: Mapping[str, Any] | None = None,
    **request: Any,
) -> Comparison:
    """Train every method on every task with every seed, and compare: ``dynapilco compare`` as a function.

    Jobs are processes of their own: methods and environments that you registered reach them through modules named in
    ``DYNAPILCO_PLUGINS``, or environment ids of the form ``module:id``.

    Parameters
    ----------
    env_id, inference : str or sequence of str
        Tasks and methods.
    seeds : int or sequence of int
        A number of seeds, or the seeds.
    config : path or mapping, optional
        Settings of the runs, and a table ``compare``, as in a TOML file.
    out : path
        Folder, new or empty unless ``resume`` or ``force``.
    resume : bool
        Run what is missing or failed; without other settings, those of the folder are taken.
    force : bool
        Delete the comparison in ``out`` and begin again.
    jobs, backend, address, job_cpus, job_gpus
        See :class:`~dynapilco.compare.pool.Pool`.
    train_options : sequence of str
        How ``dynapilco train`` runs, e.g. ``("--track",)``; no settings.
    quiet : bool
        Print nothing.
    settings : mapping, optional
        Settings of the runs that count before those of ``config``, e.g. ``{"search": {"steps": 100}}``.
    **request
        ``first_seed``, ``trials``, ``baselines``, ``baseline_budget``, ``baseline_seeds``, ``inference_kwargs``,
        ``baseline_kwargs``, ``anchors``: see :class:`~dynapilco.compare.settings.Request`.

    Raises
    ------
    UserError
        For anything that cannot be meant, before any work.
    """
    pool = Pool(jobs, backend, address, job_cpus, job_gpus)
    given = {"env_id": env_id, "inference": inference, "seeds": seeds, **request}
    asked = Request.read({name: value for name, value in given.items() if value not in ((), None)})
    checked = None
    if not (resume and asked == Request() and config is None and not settings):
        file = _file(config)
        whole = asked.over(Request.read(file.get("compare", {})))
        checked = build_settings(whole, file, lambda values: _resolved(values, settings or {}))
    console = Console(quiet=True) if quiet else make_console()
    command = [Path(sys.argv[0] or "python").name, *sys.argv[1:]]
    return execute(checked, Path(out), pool, resume, force, train_options, command, console)


def _file(config: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else read_toml(Path(config))


def _resolved(values: Mapping[str, Any], over: Mapping[str, Any]) -> AgentConfig:
    merged = dict(values)
    for name, value in over.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, Mapping) else value
    return build_config(merged)


def execute(
    settings: Settings | None,
    out: Path,
    pool: Pool,
    resume: bool,
    force: bool,
    words: Sequence[str],
    command: Sequence[str],
    console: Console,
) -> Comparison:
    """Run what is missing of a comparison; ``settings`` None takes those of the folder."""
    if resume and force:
        raise UserError("resume and force: expected one of them: --resume goes on, --force begins again")
    root = out.absolute()
    if resume:
        folders.read_settings(out)  # before the lock, which makes the folder
    else:
        folders.check_begin(out, force)
    refusal = f"out={str(out)!r}: another comparison is at work in it: wait for it, or give another --out"
    with pool.connected(), folders.held(root / folders.LOCK, 1.0, refusal):
        settings, words = _prepare(root, settings, resume, words, command)
        _work(root, settings, pool, words, console)
        return report(root, console)


def _prepare(
    root: Path, settings: Settings | None, resume: bool, words: Sequence[str], command: Sequence[str]
) -> tuple[Settings, Sequence[str]]:
    """The settings that count, after ``compare.json`` was written."""
    line = shlex.join(command)
    if not resume:
        assert settings is not None
        folders.clear(root)
        _write(root, settings, {"begun": _now(), "command": line, "directory": os.getcwd(), "resumed": []}, words)
        return settings, words
    before = folders.read_settings(root)
    try:
        theirs = Settings.of_values(before)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{str(root / folders.SETTINGS_FILE)!r} is damaged ({error!r})") from error
    if settings is None:
        settings, words = theirs, before.get("train_options", [])
    folders.check_same(root, _of_runs(settings), _of_runs(theirs))
    kept = {name: before.get(name) for name in ("begun", "command", "directory")}
    _write(root, settings, {**kept, "resumed": [*before.get("resumed", []), line]}, words)
    return settings, words


def _of_runs(settings: Settings) -> dict[str, Any]:
    """What must stay as it is; anchors only say how scores are shown."""
    return {name: value for name, value in settings.values().items() if name != "anchors"}


def _write(root: Path, settings: Settings, story: Mapping[str, Any], words: Sequence[str]) -> None:
    document = {**story, **settings.values(), "train_options": list(words), "versions": versions()}
    folders.write_settings(root, document)
    for task, methods in settings.configs.items():
        for method, values in methods.items():
            write_atomically(Folder(root).config_file(task, method), tomli_w.dumps(values))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def jobs_of(settings: Settings) -> list[Job]:
    """All jobs, in the order of the tables: task, method, seed."""
    jobs = []
    for task in settings.tasks:
        jobs += [Job(task, method, seed) for method in settings.methods for seed in settings.seeds]
        jobs += [Job(task, b.name, seed, baseline=True) for b in settings.baselines for seed in b.seeds]
    return jobs


def _work(root: Path, settings: Settings, pool: Pool, words: Sequence[str], console: Console) -> None:
    """Run the jobs that are missing or failed: the long ones first, then seed by seed, so that no method comes last."""
    folder, jobs = Folder(root), jobs_of(settings)
    left = [job for job in jobs if not folder.is_done(job)]
    for job in left:
        for suffix in (".json", ".error"):
            folder.job_file(job, suffix).unlink(missing_ok=True)
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} jobs are done already", soft_wrap=True)
    sizes = {baseline.name: baseline.budget for baseline in settings.baselines}
    planned = {j: settings.budget[j.task] // settings.horizons[j.task] * sizes.get(j.method, 1) for j in jobs}
    ordered = sorted(left, key=lambda job: (-sizes.get(job.method, 1), settings.seeds.index(job.seed)))
    orders = [_order(root, settings, job, words) for job in ordered]
    collect(folder, jobs)
    with Watcher(folder, jobs, planned, console, changed=lambda: collect(folder, jobs)) as watcher:
        pool.run(orders, watcher.say)
    collect(folder, jobs)


def _order(root: Path, settings: Settings, job: Job, words: Sequence[str]) -> Order:
    common = (job, str(root), os.getcwd(), handed_on())
    if not job.baseline:
        return Order(*common, words=tuple(words))
    found = next(baseline for baseline in settings.baselines if baseline.name == job.method)
    config = settings.configs[job.task][settings.methods[0]]
    told = {
        "name": found.name,
        "algorithm": found.algorithm,
        "options": found.options,
        "env_id": job.task,
        "env_kwargs": config.get("env_kwargs", {}),
        "total_timesteps": settings.budget[job.task] * found.budget,
    }
    return Order(*common, baseline=told)


def report(root: Path, console: Console) -> Comparison:
    """Print the tables and the sentences of a comparison that is on disk, and write its statistics."""
    runs, trials = load(root)
    found, notes = infer(runs, trials, folders.read_settings(root).get("anchors"))
    if found is not None:
        found.write(root / folders.STATISTICS, force=True)
    for table in closing_tables(runs, trials, found):
        console.print(table)
    console.print(NOTE)
    said = [*notes, *(found.sentences if found is not None else ())]
    sentences = (*failure_sentences(runs), *(_capital(text) for text in said))
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    console.print(f"tables: {root / folders.RUNS_FILE}, {root / folders.TRIALS_FILE}", soft_wrap=True)
    return Comparison(root, runs, trials, sentences)


def _capital(text: str) -> str:
    return text if text[-1] == "." else f"{text[0].upper()}{text[1:]}."
