"""Environments by id, with errors that help."""

from __future__ import annotations

from typing import Any

import gymnasium

from dynapilco.core.errors import UserError, unknown_name


def make_env(env_id: str, env_kwargs: dict[str, Any] | None = None, render_mode: str | None = None) -> gymnasium.Env:
    """``gymnasium.make`` with errors that name the nearest registered ids.

    Raises
    ------
    UserError
        For an unknown id, a module that cannot be imported, or keywords that the environment refuses.
    """
    shown = {} if render_mode is None else {"render_mode": render_mode}  # many constructors do not know the word
    try:
        return gymnasium.make(env_id, **shown, **(env_kwargs or {}))
    except gymnasium.error.UnregisteredEnv as error:
        raise _unknown_env(env_id) from error
    except ModuleNotFoundError as error:
        missing = error.name or getattr(error.__cause__, "name", None)  # Gymnasium's own error has no name
        raise UserError(f"environment {env_id!r}: module {missing!r} is not installed") from error
    except gymnasium.error.Error as error:
        if "Malformed" in str(error):
            raise _unknown_env(env_id) from error
        raise UserError(f"environment {env_id!r}: {one_line(error)}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"environment {env_id!r} does not take these options: {one_line(error)}") from error
    except Exception as error:  # whatever the constructor of somebody's environment raises
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"environment {env_id!r} cannot be made ({reason})") from error


def one_line(error: Exception) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())


def _unknown_env(env_id: str) -> UserError:
    bare = env_id.partition(":")[2] or env_id
    ours = [name for name in gymnasium.registry if name.startswith("dynapilco/")]
    error = unknown_name("environment", bare, gymnasium.registry)
    nearest = str(error).partition("valid names are ")[0]
    return UserError(f"{nearest}expected a registered Gymnasium id, e.g. {', '.join(sorted(ours))}")
