"""Make one virtual environment for each peer library, from PyPI, with pinned versions.

    python experiments/benchmarks/peers/make_environments.py [--folder .peers] [--peers ivon] [-- PIP OPTIONS]

An environment that already holds the pinned versions is left alone, so the script can be run again. What follows
``--`` goes to ``pip install`` (for instance ``--index-url`` of PyTorch's CPU builds, which are smaller than the default
ones). The runners use the CPU only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TORCH = "torch==2.13.0"
NUMPY = "numpy==2.4.6"
PEERS = {
    "torchbayesian": ("torchbayesian==0.2.1", TORCH, NUMPY),
    "torch_blue": ("torch-blue==1.1.0", TORCH, NUMPY),
    "posteriors": ("posteriors==0.1.3", "tensordict==0.15.3", "torchopt==0.7.3", "optree==0.20.0", TORCH, NUMPY),
    "ivon": ("ivon-opt==0.1.3", TORCH, NUMPY),
    "blackjax": ("blackjax==1.7.1", "jax==0.10.2", "jaxlib==0.10.2", NUMPY),
}
STAMP = "installed.txt"


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".peers"), help="where the environments go")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--python", default=sys.executable, help="interpreter that the environments are made of")
    parser.add_argument("pip", nargs="*", help="options for pip install, after --")
    arguments = parser.parse_args()
    for name in arguments.peers:
        made = make(arguments.folder / name, PEERS[name], arguments.python, arguments.pip)
        print(f"{name}: {'made' if made else 'was there'}, {interpreter(arguments.folder, name)}")


def make(folder: Path, packages: Sequence[str], python: str, pip: Sequence[str] = ()) -> bool:
    """Make one environment, unless its stamp says that it holds just these packages; True when it was made."""
    stamp = folder / STAMP
    wanted = "\n".join(packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    own = interpreter(folder.parent, folder.name)
    subprocess.run([str(own), "-m", "pip", "install", "--quiet", *pip, *packages], check=True)
    stamp.write_text(wanted)
    return True


def interpreter(folder: Path, name: str) -> Path:
    """The Python of the environment ``name`` under ``folder``."""
    inside = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return (folder / name).absolute().joinpath(*inside)


if __name__ == "__main__":
    main()
