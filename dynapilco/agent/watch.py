"""What to do about an environment that misbehaves: say it, count it, go on or stop."""

from __future__ import annotations

from collections.abc import Callable

from dynapilco.agent.agreement import disagreement
from dynapilco.agent.config import AgentConfig
from dynapilco.agent.episode import Episode
from dynapilco.core.errors import EnvironmentFault, UserError
from dynapilco.tasks import FlatEnv, Task
from dynapilco.tracking.sink import TrialRow


class Watch:
    """Judges the episodes of a run, as ``on_env_error`` and ``on_disagreement`` ask.

    Parameters
    ----------
    config : AgentConfig
    task : Task
    env : FlatEnv
    """

    def __init__(self, config: AgentConfig, task: Task, env: FlatEnv) -> None:
        self.config, self.task, self.env = config, task, env
        self._told = False

    def disagreements(self, episode: Episode) -> int | None:
        """Steps at which what is known differs from the environment; None where nothing is known."""
        found = disagreement(self.task, self.env, episode)
        return None if found is None else found.steps

    def verdict(self, row: TrialRow, episode: Episode, tell: Callable[[str], None]) -> UserError | None:
        """Tell of what went wrong in a trial that was kept, and give the error that should end the learning."""
        differs = self._differs(row, episode, tell)
        if episode.fault is None:
            return differs
        text = f"trial {row.trial}: {episode.fault}; its {_steps(episode)} before are kept"
        if self.config.on_env_error == "stop":
            fault = EnvironmentFault(f"{text} (on_env_error = 'continue' would go on with the next trial)")
            fault.__cause__ = episode.fault
            return fault
        tell(f"{text}, and the next trial follows")
        return differs

    def _differs(self, row: TrialRow, episode: Episode, tell: Callable[[str], None]) -> UserError | None:
        stops = self.config.on_disagreement == "stop"
        if not row.disagreements or (self._told and not stops):
            return None
        found = disagreement(self.task, self.env, episode)
        assert found is not None
        text = f"trial {row.trial}: {found.text}; so at {found.steps} of its {_steps(episode)}"
        if stops:
            return UserError(f"{text}; they are kept (on_disagreement = 'continue' would go on with what is known)")
        self._told = True
        tell(f"{text}. What is known is used all the same (said once; later trials count such steps)")
        return None


def _steps(episode: Episode) -> str:
    count = len(episode.actions)
    return f"{count} step{'' if count == 1 else 's'}"
