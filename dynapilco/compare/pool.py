"""Where jobs run: processes of this machine (loky), a Ray cluster, or a Dask cluster, all through joblib.

joblib is used to hand out jobs, never to load a file: nothing here reads a pickle from disk.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib

from dynapilco.compare.supervise import Order, run_job
from dynapilco.core.errors import UserError, unknown_name

BACKENDS = {
    "loky": "processes of this machine",
    "ray": "a Ray cluster (pip install 'dynapilco[ray]')",
    "dask": "a Dask cluster (pip install 'dynapilco[dask]')",
}
CONNECT_SECONDS = 5.0
SETTLE_SECONDS, PLACE_SECONDS = 20.0, 20.0
FRUITLESS_ROUNDS = 3
"""How often all that is left is handed out again without one job coming to its end, before giving up."""


@dataclass(frozen=True)
class Pool:
    """Where jobs run, and what each may ask for."""

    jobs: int = 1
    """Jobs that run at the same time, one thread each."""
    backend: str = "loky"
    """'loky' (processes of this machine), 'ray' or 'dask' (a cluster)."""
    address: str | None = None
    """Of the cluster: HOST:PORT (Ray, also ray://HOST:PORT) or tcp://HOST:PORT (Dask); this machine without one."""
    job_cpus: float = 1.0
    """CPUs that a job asks for (Ray)."""
    job_gpus: float = 0.0
    """GPUs that a job asks for, also a share of one (Ray; Dask: the resource GPU of its workers)."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"jobs={self.jobs!r}: expected at least 1")
        if self.backend not in BACKENDS:
            raise unknown_name("backend", self.backend, BACKENDS)
        if self.job_cpus <= 0 or self.job_gpus < 0:
            raise UserError(
                f"job_cpus={self.job_cpus!r}, job_gpus={self.job_gpus!r}: expected more than 0, and at least 0"
            )
        if self.backend == "loky" and (self.address is not None or self.job_gpus or self.job_cpus != 1):
            raise UserError("address, job_cpus and job_gpus are for --backend ray or dask: expected none with loky")

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Be connected to the cluster, if there is one.

        Raises
        ------
        UserError
            When its library is missing, or nobody answers.
        """
        connect = {"ray": _ray, "dask": _dask}.get(self.backend)
        with contextlib.nullcontext() if connect is None else connect(self):
            yield

    def run(self, orders: Sequence[Order], say: Callable[[str], None]) -> None:
        """Run all jobs to their ends. A job that fails is a job at its end; a worker or a node that is lost is not.

        Raises
        ------
        Exception
            Whatever the backend raised last, when round after round nothing more came to its end.
        """
        left, fruitless = list(orders), 0
        while left:
            try:
                self._round(left)
                return
            except UserError:
                raise
            except Exception as error:  # of the backend, as run_job raises nothing of a job's
                before, left = len(left), [o for o in left if not _settled(o)]
                fruitless = fruitless + 1 if len(left) == before else 0
                if fruitless >= FRUITLESS_ROUNDS:
                    raise
                first = (str(error).strip().splitlines() or [""])[0]
                say(f"a worker was lost ({type(error).__name__}: {first}); {len(left)} jobs are handed out again")
                if self.backend == "ray":
                    _await_nodes()

    def _round(self, orders: Sequence[Order]) -> None:
        jobs = min(self.jobs, len(orders))
        options: dict[str, Any] = {}
        one_by_one: dict[str, Any] = {"batch_size": 1, "pre_dispatch": "all", "max_nbytes": None}
        if self.backend == "ray":
            jobs = _ray_slots(self, jobs)
            options["ray_remote_args"] = {"num_cpus": self.job_cpus, "num_gpus": self.job_gpus}
        if self.backend == "dask" and self.job_gpus:
            options["resources"] = {"GPU": self.job_gpus}
        call = joblib.delayed(run_job)
        with joblib.parallel_config(self.backend, n_jobs=jobs, **options):
            joblib.Parallel(**one_by_one)(call(order) for order in orders)


def _settled(order: Order) -> bool:
    return order.folder.is_done(order.job) or order.folder.state(order.job).get("status") == "failed"


@contextlib.contextmanager
def _ray(pool: Pool) -> Iterator[None]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"backend='ray': {error.name!r} is not installed: pip install 'dynapilco[ray]'") from error
    if pool.address is not None and pool.address != "auto":
        _probe("Ray", pool.address)
    own = not ray.is_initialized()
    try:
        if own:
            cpus = {"num_cpus": max(1, round(pool.jobs * pool.job_cpus))} if pool.address is None else {}
            ray.init(address=pool.address or "local", log_to_driver=False, logging_level="ERROR", **cpus)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError: as the version of Ray likes
        raise _unreachable("Ray", pool.address, error) from error
    register_ray()
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def _ray_slots(pool: Pool, wanted: int) -> int:
    """How many jobs the cluster can hold now, at most ``wanted``.

    Ray itself is asked, by reserving the places and giving them back: a pool that is larger than the cluster would wait
    for more nodes for ever.

    Raises
    ------
    UserError
        When not one job finds a place.
    """
    import ray  # pyright: ignore[reportMissingImports]
    from ray.util import placement_group, remove_placement_group  # pyright: ignore[reportMissingImports]

    place = {"CPU": pool.job_cpus} | ({"GPU": pool.job_gpus} if pool.job_gpus else {})
    slots = min(wanted, sum(_fits(node["Resources"], place) for node in ray.nodes() if node["Alive"]))
    while slots > 0:
        group = placement_group([place] * slots)
        ready = group.wait(timeout_seconds=PLACE_SECONDS)
        remove_placement_group(group)
        if ready:
            return slots
        slots -= max(1, slots // 8)
    raise UserError(
        f"no Ray node has {pool.job_cpus:g} CPUs and {pool.job_gpus:g} GPUs free: expected smaller --job-cpus "
        "and --job-gpus, or another node"
    )


def _fits(have: Mapping[str, float], place: Mapping[str, float]) -> int:
    return int(min(have.get(name, 0.0) / amount for name, amount in place.items()))


def _await_nodes() -> None:
    """Wait until Ray knows who is alive: a lost node is noticed after some missed heartbeats."""
    import ray  # pyright: ignore[reportMissingImports]

    since, before = time.monotonic(), None
    while time.monotonic() - since < SETTLE_SECONDS:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if alive != before:
            since, before = time.monotonic(), alive
        time.sleep(1.0)


@contextlib.contextmanager
def _dask(pool: Pool) -> Iterator[None]:
    try:
        from distributed import Client, LocalCluster  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"backend='dask': {error.name!r} is not installed: pip install 'dynapilco[dask]'") from error
    if pool.address is not None:
        _probe("Dask", pool.address)
        try:
            client = Client(pool.address, timeout=CONNECT_SECONDS)
        except Exception as error:  # OSError, TimeoutError, ValueError
            raise _unreachable("Dask", pool.address, error) from error
        with client:
            yield
        return
    resources = {"resources": {"GPU": 1}} if pool.job_gpus else {}
    with (
        LocalCluster(n_workers=pool.jobs, threads_per_worker=1, dashboard_address=None, **resources) as cluster,
        Client(cluster),
    ):
        yield


def _probe(name: str, address: str) -> None:
    """Knock at the door: the libraries themselves wait for minutes, or end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"address={address!r}: expected HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(name, address, error) from error


def _unreachable(name: str, address: str | None, error: Exception) -> UserError:
    first = (str(error).strip().splitlines() or [""])[0]
    where = "a cluster of this machine" if address is None else f"address={address!r}"
    return UserError(f"{where}: no {name} cluster answers ({type(error).__name__}: {first}): expected one that runs")
