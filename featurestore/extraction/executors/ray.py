"""RayPool: one core actor a GPU, or a machine, of a Ray cluster; nothing but numbers of blocks goes through Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Thread, current_thread, main_thread
from typing import Any
from urllib.parse import urlsplit

from featurestore.errors import MissingDependencyError, SkyprobeError, UsageError
from featurestore.extraction.executors.host import Host, Order, Piece
from featurestore.extraction.processing import Processed

ANSWER_SECONDS = 10.0
"""A cluster that does not answer in so long is not there."""

_RESTARTS, _RETRIES = 4, 2
"""Ray's own defaults retry for ever."""

_OBJECT_STORE_BYTES = 100 * 2**20
"""Nothing goes through Ray's object store, which would otherwise take 30 % of the memory."""


@dataclass(frozen=True)
class RayOptions:
    """Where Ray is, and what an actor takes of it.

    Attributes:
        address: ``auto``, HOST:PORT, or None: a Ray of our own, on this machine.
        gpus: GPUs of an actor; 0 on the CPU, parts of 1 let several share one.
        size: Number of actors; None: as many as there are GPUs for, else one a machine.
    """

    address: str | None = None
    gpus: float = 0.0
    size: int | None = None


class RayPool:
    """Actors of Ray; see `featurestore.extraction.executors.coordinator.Pool`.

    Args:
        order: The extraction.
        options: How many actors, and what each takes.
    """

    tries = 1  # Ray has retried by then

    def __init__(self, order: Order, options: RayOptions) -> None:
        resources, nodes = _look_around()
        self.size = options.size or _count_places(resources, nodes, options)
        self._cpus = order.options.workers or max(1, int(resources.get("CPU", 1)) // self.size)
        self._order = replace(order, options=replace(order.options, workers=self._cpus))
        self._options = options
        self._check_room(resources)
        self._actors = [self._make(number) for number in range(self.size)]

    def start(self, number: int) -> Future[list[int] | SkyprobeError]:
        """Ask an actor for the blocks with something to do."""
        future: Future[list[int] | SkyprobeError] = self._actors[number].blocks.remote().future()
        return future

    def ask(self, number: int, piece: Piece) -> Future[Processed | SkyprobeError]:
        """Have an actor do a piece."""
        process = self._actors[number].process
        if piece.rows is not None:  # a block is being taken apart: each part is tried once
            process = process.options(max_task_retries=0)
        future: Future[Processed | SkyprobeError] = process.remote(piece).future()
        return future

    def replace(self, number: int) -> None:
        """Put a new actor into the place of one that died."""
        import ray

        ray.kill(self._actors[number])
        self._actors[number] = self._make(number)

    def close(self) -> None:
        """End all actors; what they were computing is dropped."""
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def _make(self, number: int) -> Any:
        import ray

        actor = ray.remote(Host).options(
            num_cpus=self._cpus,
            num_gpus=self._options.gpus,
            scheduling_strategy="SPREAD",
            max_restarts=_RESTARTS,
            max_task_retries=_RETRIES,
        )
        return actor.remote(self._order, number)

    def _check_room(self, resources: dict[str, float]) -> None:
        """Refuse actors for which Ray would wait for ever."""
        for name, each in (("CPU", self._cpus), ("GPU", self._options.gpus)):
            there = resources.get(name, 0)
            if each * self.size > there:
                raise UsageError(
                    f"{self.size} actors of {each:g} {name} each, and the cluster has {there:g} {name}",
                    where=self._options.address or "ray",
                    hint="Use fewer --devices, fewer --workers, or --gpus-per-worker 0 on the CPU.",
                )


def _look_around() -> tuple[dict[str, float], int]:
    """Resources of the cluster, and how many machines it has."""
    import ray

    cluster: Any = ray  # parts of it have no types
    return cluster.cluster_resources(), sum(node["Alive"] for node in cluster.nodes())


def _count_places(resources: dict[str, float], nodes: int, options: RayOptions) -> int:
    return max(1, int(resources.get("GPU", 0) / options.gpus)) if options.gpus else max(1, nodes)


@contextmanager
def connected(address: str | None, options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Ray, found at an address or started on this machine, as long as the context lasts.

    Args:
        address: See `RayOptions`.
        options: More of ``ray.init``.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: Nothing answers at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "Ray is not installed", where="--executor ray", hint="Install it: pip install 'skyprobe[ray]'."
        ) from error
    if ray.is_initialized():  # by the caller, whose it is
        yield
        return
    if address and address != "auto":
        _check_answer(address)
    started = {} if address else {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    with _own_signals():
        _connect(address, {"log_to_driver": False, "logging_level": logging.ERROR, **started, **(options or {})})
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None, options: dict[str, Any]) -> None:
    import ray

    failed: list[BaseException] = []

    def connect() -> None:
        try:
            ray.init(address=address, **options)
        except Exception as error:
            failed.append(error)

    if address is None:  # nothing to wait for
        ray.init(**options)
        return
    attempt = Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(ANSWER_SECONDS)
    if failed or attempt.is_alive():
        raise _no_answer(address, str(failed[0]).splitlines()[0] if failed else f"silent for {ANSWER_SECONDS:g} s")


def _check_answer(address: str) -> None:
    """Refuse an address that nothing listens at: Ray itself would try for minutes."""
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        with socket.create_connection((parts.hostname or "", parts.port or 6379), ANSWER_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise _no_answer(address, str(error)) from error


def _no_answer(address: str, why: str) -> UsageError:
    return UsageError(
        f"no Ray cluster answers: {why}",
        where=address,
        hint="Start one by ray start --head, and give --ray-address HOST:6379; or leave out --ray-address.",
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts handlers of its own in place."""
    if current_thread() is not main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
