"""What is known about Gymnasium's own environments: importing this registers it."""

from dynapilco.tasks.catalogue import classic_control, mujoco

__all__ = ["classic_control", "mujoco"]
