"""``dynapilco train``: learn, evaluate, and leave a run directory behind."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynapilco.agent.config import AgentConfig, acting_name
from dynapilco.agent.config_file import build_config, config_values
from dynapilco.cli.sinks import close_sinks, make_sinks
from dynapilco.cli.statistics import count_successes
from dynapilco.cli.train_options import FREE_ON_RESUME, Plan, parse_train
from dynapilco.core.errors import CheckpointError, EnvironmentFault, UserError
from dynapilco.core.storage import STATE_FILE, read_fields
from dynapilco.tracking.run_dir import (
    CHECKPOINT_FOLDER,
    PROGRESS_FILE,
    append_command,
    check_out,
    make_run_dir,
    run_name,
    write_config,
)
from dynapilco.tracking.sink import Sink, TrialRow
from dynapilco.tracking.summary import build_summary, read_summary, write_summary

if TYPE_CHECKING:
    from dynapilco.agent import DynaPILCO, Evaluation

EPISODES = 20
INTERRUPTED = 130

OTHER_WAYS = "another way to act (--controller evolution, or icem)"


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    plan = parse_train(words)
    import torch

    torch.set_num_threads(plan.run.threads)
    command = ["dynapilco", "train", *words]
    return _resumed(plan, command) if plan.run.resume is not None else _fresh(plan, command)


def _fresh(plan: Plan, command: Sequence[str]) -> int:
    """Begin a run. Whatever can be wrong is found before its folder is made."""
    if plan.run.out is not None:
        check_out(plan.run.out)
    config = plan.config
    remark = _why_no_video(plan)
    agent = _agent_class().from_config(config, render=plan.run.video and remark is None)
    name = run_name(config.env_id, config.inference, config.seed, datetime.now())
    run_dir = make_run_dir(name, plan.run.out)
    write_config(run_dir, config_values(config))
    append_command(run_dir, command)
    return _go(agent, run_dir, plan, [*plan.remarks, *filter(None, [remark])])


def _resumed(plan: Plan, command: Sequence[str]) -> int:
    """Go on with a run, in the same folder and the same files."""
    run_dir, config = plan.run.resume, plan.config
    assert run_dir is not None
    remark = _why_no_video(plan)
    render = plan.run.video and remark is None
    if _before_first_trial(run_dir):
        agent = _agent_class().from_config(config, render=render)
    else:
        agent = _agent_class().load(
            run_dir,
            device=config.device,
            render=render,
            on_env_error=config.on_env_error,
            on_disagreement=config.on_disagreement,
        )
        _check_checkpoint(agent, config, run_dir)
        if _is_complete(agent, run_dir, config.total_timesteps):
            steps = agent.history[-1].env_steps
            print(
                f"run {str(run_dir)!r} is already complete: {len(agent.history)} trials, {steps} environment "
                "steps; a larger --total-timesteps goes on"
            )
            return 0
    write_config(run_dir, config_values(config))
    append_command(run_dir, command)
    return _go(agent, run_dir, plan, filter(None, [remark]))


def _agent_class() -> type[DynaPILCO]:
    from dynapilco.agent import (
        DynaPILCO,
    )  # imports stable-baselines3: only once the options are known to be good

    return DynaPILCO


def _before_first_trial(run_dir: Path) -> bool:
    """Whether the run was stopped before there was anything to go on from."""
    progress = run_dir / PROGRESS_FILE
    rows = len(progress.read_text().splitlines()) - 1 if progress.is_file() else 0
    return rows < 1 and not (run_dir / CHECKPOINT_FOLDER / STATE_FILE).exists()


def _check_checkpoint(agent: DynaPILCO, config: AgentConfig, run_dir: Path) -> None:
    """Refuse a checkpoint that does not belong to the ``config.toml`` beside it."""
    theirs, ours = config_values(build_config(config_values(agent.config))), config_values(config)
    for name, value in ours.items():
        if name not in FREE_ON_RESUME and theirs.get(name) != value:
            raise CheckpointError(
                f"the checkpoint in {str(run_dir)!r} is of another run: its {name} is {theirs.get(name)!r}, "
                f"config.toml says {value!r}"
            )


def _is_complete(agent: DynaPILCO, run_dir: Path, total_timesteps: int) -> bool:
    done, summary = agent.history, read_summary(run_dir)
    reached = bool(done) and done[-1].env_steps >= total_timesteps
    return reached and summary is not None and summary.get("trials") == len(done)


def _why_no_video(plan: Plan) -> str | None:
    """Try one picture, so that a missing renderer is known now and not in the last trial."""
    if not plan.run.video:
        return None
    from dynapilco.tasks import make_env

    try:
        env = make_env(plan.config.env_id, plan.config.env_kwargs, "rgb_array")
        env.reset(seed=0)
        frame: Any = env.render()
        env.close()
        return None if getattr(frame, "ndim", 0) == 3 else "no video: the environment gives no picture"
    except UserError as error:  # also of an unknown environment, which the agent reports
        return f"no video: {error}"
    except Exception as error:  # whatever a renderer that is not there raises
        return f"no video: the environment cannot be rendered ({type(error).__name__}: {error})"


def _go(agent: DynaPILCO, run_dir: Path, plan: Plan, remarks: Any) -> int:
    """Learn and evaluate, with sinks that are closed whatever happens."""
    history = list(agent.history)
    group = f"{plan.config.env_id}__{plan.config.inference}"
    sinks = make_sinks(run_dir, plan.run, group, history)
    agent.attach(sinks=sinks, checkpoint_dir=run_dir / CHECKPOINT_FOLDER)
    try:
        for text in remarks:
            sinks[0].message(text)
        closing = _learn_and_judge(agent, run_dir, plan, sinks, history)
    except KeyboardInterrupt:
        close_sinks(sinks)
        print(_how_to_go_on(run_dir, "interrupted"), file=sys.stderr)
        return INTERRUPTED
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{fault}; {_how_to_go_on(run_dir, 'stopped')}") from fault
    finally:
        close_sinks(sinks)
    print(closing)
    return 0


def _learn_and_judge(
    agent: DynaPILCO, run_dir: Path, plan: Plan, sinks: Sequence[Sink], history: Sequence[TrialRow]
) -> str:
    """Returns the closing sentence."""
    began, before = time.monotonic(), sum(_seconds(row) for row in history)
    left = plan.config.total_timesteps - (history[-1].env_steps if history else 0)
    if left > 0:
        agent.learn(total_timesteps=left, reset_num_timesteps=not history)
    else:  # stopped after its last trial: what the sinks had not written yet is written now
        for sink in sinks:
            sink.start(config_values(plan.config), len(history))
    result = agent.evaluate(EPISODES)
    summary = build_summary(
        config_values(plan.config),
        agent.history,
        result.returns,
        result.successes,
        delivered_trial=agent.delivered_trial,
        wall_seconds=before + time.monotonic() - began,
        engine=agent.engine,
    )
    write_summary(run_dir, summary)
    for sink in sinks:
        sink.finish(summary)
    whose = acting_name(agent.config.controller, agent.delivered_trial)
    return f"{_verdict(summary, result, whose, agent.history)}; files in {run_dir}"


def _seconds(row: TrialRow) -> float:
    return (row.seconds_model or 0.0) + (row.seconds_policy or 0.0) + row.seconds_env


def _verdict(summary: dict[str, Any], result: Evaluation, policy: str, history: Sequence[TrialRow]) -> str:
    if summary["solved"] is None:
        mean = sum(result.returns) / len(result.returns)
        text = f"mean return {mean:.2f} in {len(result.returns)} fresh episodes with {policy}"
        explored = [row.ret for row in history if row.explored and row.ended_by != "error"]
        if explored and mean < (best := max(explored)):
            return f"{text}, which is worse than an exploration trial ({best:.2f}): try more trials, or {OTHER_WAYS}"
        return text
    outcome = "solved" if summary["solved"] else "not solved"
    return f"{outcome}: {count_successes(result.successes or [])} fresh episodes succeed with {policy}"


def _how_to_go_on(run_dir: Path, what: str) -> str:
    command = f"dynapilco train --resume {shlex.quote(str(run_dir))}"
    if _before_first_trial(run_dir):
        return f"{what} before the first trial was finished: no checkpoint yet; start again with: {command}"
    folder = run_dir / CHECKPOINT_FOLDER
    last = len(read_fields(folder)["history"]) - 1  # of the disk: the agent may be one trial ahead
    return f"{what}: the checkpoint of trial {last} is in {folder}; go on with: {command}"
