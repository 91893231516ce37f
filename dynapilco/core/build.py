"""Compile a C++ kernel with the user's own compiler and cache the shared library."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from dynapilco.core.errors import UserError

# Never -ffast-math: linking it sets flush-to-zero for the whole process, and NaN must propagate.
FLOAT_FLAGS = ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
FLAGS = ("-O3", "-std=c++17", *FLOAT_FLAGS, "-shared", "-fPIC")
# The target flags to try in turn: some compilers know only -mcpu for this machine, or neither.
TARGETS = (("-march=native",), ("-mcpu=native",), ())
COMPILERS = ("c++", "g++", "clang++")
TIMEOUT_S = 180


class BuildError(RuntimeError):
    """The kernel could not be compiled; the message says why."""


def check_choice() -> str:
    """The engine that the environment variable ``DYNAPILCO_ENGINE`` asks for.

    Raises
    ------
    UserError
        For anything but ``auto`` and ``torch``.
    """
    choice = os.environ.get("DYNAPILCO_ENGINE") or "auto"
    if choice not in ("auto", "torch"):
        raise UserError(f"DYNAPILCO_ENGINE={choice!r}: expected 'auto' (a compiled kernel where it works) or 'torch'")
    return choice


def find_compiler() -> list[str]:
    """Return the compiler command: ``$CXX`` (with any arguments), else the first of ``COMPILERS`` found."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise BuildError(f"the compiler of $CXX, {chosen[0]!r}, was not found")
        return chosen
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise BuildError(f"no C++ compiler was found ($CXX, {', '.join(COMPILERS)})")


def cache_dir() -> Path:
    """Return the folder for compiled libraries (made by ``build``)."""
    own = os.environ.get("DYNAPILCO_CACHE_DIR")
    if own:
        return Path(own).expanduser()
    general = os.environ.get("XDG_CACHE_HOME")
    return (Path(general) if general else Path("~/.cache").expanduser()) / "dynapilco"


def build(source: Path, name: str) -> Path:
    """Return the path of the compiled library, compiling it unless the cache has it.

    Parameters
    ----------
    source : Path
        One C++17 file that includes nothing of its own.
    name : str
        What the kernel is called in messages and in the cache.

    Raises
    ------
    BuildError
        No compiler, or the compilation failed.
    """
    compiler = find_compiler()
    try:
        library = cache_dir() / f"{name}-{_fingerprint(compiler, source)}.so"
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            _compile(compiler, source, library)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"compiling the {name} kernel failed: {error}") from error
    return library


def _compile(compiler: list[str], source: Path, library: Path) -> None:
    """Compile to a temporary file beside ``library`` and rename it: several processes may build at once."""
    handle, temporary = tempfile.mkstemp(suffix=".so", dir=library.parent)
    os.close(handle)
    try:
        complaint = ""
        for target in TARGETS:
            command = [*compiler, *FLAGS, *target, str(source), "-o", temporary]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            if done.returncode == 0:
                os.replace(temporary, library)
                return
            complaint = done.stderr.strip()[-500:]
        raise BuildError(f"{compiler[0]} could not compile {source.name}: {complaint}")
    finally:
        Path(temporary).unlink(missing_ok=True)


def _fingerprint(compiler: list[str], source: Path) -> str:
    """Hash whatever the machine code depends on."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=30, check=False)
    parts = [source.read_text(), repr((FLAGS, TARGETS)), repr(compiler), version.stdout, _cpu_model()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _cpu_model() -> str:
    """Name the processor with its instruction sets, as far as the system tells."""
    known = [platform.system(), platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        wanted = ("model name", "flags", "Features", "CPU part", "isa")
        lines = info.read_text(errors="replace").splitlines()
        known += sorted({line for line in lines if line.startswith(wanted)})
    elif platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        known.append(subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout)
    return "\n".join(known)
