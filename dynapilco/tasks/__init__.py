"""Tasks: what an environment asks for, as the learned model sees it."""

from dynapilco.tasks.task import Task, make_env, task_of

__all__ = ["Task", "make_env", "task_of"]
