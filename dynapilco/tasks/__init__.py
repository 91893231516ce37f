"""Tasks: what an environment asks for, as the learned model sees it."""

from dynapilco.tasks import catalogue
from dynapilco.tasks.angles import Angles, with_angles
from dynapilco.tasks.flat import ActionCodec, FlatEnv
from dynapilco.tasks.history import Stack, with_history
from dynapilco.tasks.known import Known, register_known
from dynapilco.tasks.make import make_env
from dynapilco.tasks.reading import task_of
from dynapilco.tasks.task import StepFunction, Task

__all__ = [
    "ActionCodec",
    "Angles",
    "FlatEnv",
    "Known",
    "Stack",
    "StepFunction",
    "Task",
    "catalogue",
    "make_env",
    "register_known",
    "task_of",
    "with_angles",
    "with_history",
]
