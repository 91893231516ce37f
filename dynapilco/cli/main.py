"""The command ``dynapilco``: picks a subcommand, and turns errors of the user into one line.

Nothing heavy is imported here, so that help and a mistyped command answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

EXIT_OK, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 2, 130

COMMANDS = {
    "train": "learn to control an environment, from nothing, in a few trials",
    "evaluate": "run fresh episodes with the policy of a finished run",
    "report": "show a run or a comparison: one HTML file, and figures for papers",
    "compare": "train methods and baselines over seeds and tasks, resumably, and compare them",
    "log": "upload a finished run to Weights & Biases, or write it for TensorBoard",
    "benchmark": "time policy gradients and model fits beside floors measured in the same run",
    "list": "show environments, inference methods, policies and other parts that a word selects",
}

USAGE = """usage: dynapilco COMMAND [OPTIONS]

Model-based reinforcement learning with Bayesian neural network dynamics.

commands:
{commands}

options:
  -h, --help  show this text; with a command, show all its options
  --version   show the version

examples:
  dynapilco train --config experiments/quickstart.toml
  dynapilco train --env-id dynapilco/CartPoleSwingUp-v0 --inference ensemble --seed 1
  dynapilco train --inference mc_dropout --search.steps 300 --dynamics.hidden 64 64
  dynapilco evaluate runs/NAME --episodes 50
  dynapilco report runs/NAME
  dynapilco compare --inference random_features ensemble --seeds 10 --jobs 2
  dynapilco log runs/NAME --track

Inference methods of your own: DYNAPILCO_PLUGINS=my_module dynapilco list
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Words after ``dynapilco``; those of the process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        listing = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
        print(USAGE.format(commands=listing), end="")
        return EXIT_OK
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"dynapilco {version('dynapilco')}")
        return EXIT_OK
    return _run_command(words[0], words[1:])


def _run_command(command: str, words: list[str]) -> int:
    from dynapilco.core.errors import UserError, unknown_name

    try:
        if command not in COMMANDS:
            raise unknown_name("command", command, COMMANDS)
        module = import_module(f"dynapilco.cli.{command}")
        import_module("dynapilco.cli.plugins").load_plugins()
        return module.run(words)
    except UserError as error:
        print("dynapilco: error:", " ".join(str(error).split()), file=sys.stderr)
        return EXIT_USER_ERROR
    except OSError as error:  # a full disk, a folder that may not be written to, ...
        place = f" {error.filename!r}" if error.filename else ""
        print(f"dynapilco: error: the system refused a file{place}: {error.strerror or error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("dynapilco: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
