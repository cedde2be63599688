# SPDX-License-Identifier: Apache-2.0
"""Runs one function in a group of processes: starts them, numbers them, reports their outcome.

this command, the supervisor  --paddle.distributed.spawn-->  workers 0, 1, ... of this machine
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import paddle.distributed as dist
import psutil

from paddlex_ml import paddle_runtime, stop_signals, systems, terminal
from paddlex_ml.devices import Devices, use
from paddlex_ml.distributed import addresses
from paddlex_ml.distributed.group import PeerLost, ProcessGroup, SharedState, join
from paddlex_ml.distributed.parent import exit_with_parent
from paddlex_ml.distributed.supervisor import Outcome, WorkerProcess, supervise
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache

logger = logging.getLogger(__name__)

Body = Callable[[Any, ProcessGroup], Any]

PORT = 6170  # Paddle's own default
_GPU = "FLAGS_selected_gpus"  # the GPU that Paddle's spawn and launcher give a process


@dataclass(frozen=True)
class Layout:
    """The processes on all machines; ranks are numbered through them in this order."""

    devices: Devices
    """On each of the machines."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    machine: int = 0
    """Index of this machine's address."""

    @property
    def device_names(self) -> list[str]:
        """Device of every rank, with its machine if there are several."""
        kind, several = self.devices.kind, len(self.addresses) > 1
        return [
            f"{kind}:{number}" + (f" of {address}" if several else "")
            for address in self.addresses
            for number in self.devices.numbers
        ]

    @property
    def first_rank(self) -> int:
        """Rank of this machine's first process."""
        return self.machine * len(self.devices.numbers)


class Job(NamedTuple):
    """The arguments of every worker process."""

    body: Body
    argument: Any
    layout: Layout
    shared: SharedState
    reports: list[Connection]


def run(body: Body, argument: Any, devices: Devices, ips: str | None = None) -> Any:
    """Run `body(argument, group)` in as many processes as there are devices on all machines.

    One device on one machine runs here, in this process, and so does a process that
    `paddle.distributed.launch` has started. `body` and `argument` must be picklable. Returns what
    rank 0 returned. Raises what ended the training: PaddlexMLError, Stopped, or RuntimeError with
    the traceback of a bug.
    """
    if addresses.is_launched():
        return _run_launched(body, argument, devices)
    layout = Layout(devices, *addresses.find_machine(ips)) if ips else Layout(devices)
    if len(layout.device_names) == 1:
        use(devices.first)
        return body(argument, ProcessGroup())
    return _run_workers(body, argument, layout)


def _run_workers(body: Body, argument: Any, layout: Layout) -> Any:
    """Start the worker processes of this machine and supervise them."""
    if not systems.IS_LINUX:
        raise PaddlexMLError(
            f"Paddle trains in several processes on Linux alone: {', '.join(layout.device_names)}",
            where="Global.device" if len(layout.addresses) == 1 else "Train.dist_ips",
            fix=f"-o Global.device={layout.devices.first} -o Train.dist_ips=null",
        )
    devices, count, spawning = layout.devices, len(layout.devices.numbers), get_context("spawn")
    shared = SharedState(*(spawning.RawArray("i", n) for n in (count, count, 1)))
    pipes = [spawning.Pipe(duplex=False) for _ in range(count)]
    job = Job(body, argument, layout, shared, [sender for _, sender in pipes])
    names = layout.device_names[layout.first_rank : layout.first_rank + count]
    logger.info("starting %d processes: %s", count, ", ".join(names))
    paddle_runtime.share_cores(count)
    stop_signals.start_tracker()
    options: dict[str, Any] = {"backend": "gloo"}
    if devices.kind == "gpu":
        options = {"backend": "nccl", "gpus": gpu_names(devices.numbers)}
    with paddle_runtime.home_for_paddle(), _without_start_messages():
        # The workers need the context to start: keep it.
        context = dist.spawn(_run_worker, (job,), count, join=False, **options)
    for _, sender in pipes:
        sender.close()  # so that the death of a worker closes its pipe
    workers = [
        WorkerProcess(layout.first_rank + k, name, process, receiver)
        for k, (name, process, (receiver, _)) in enumerate(
            zip(names, context.processes, pipes, strict=True)
        )
    ]
    others = [a for k, a in enumerate(layout.addresses) if k != layout.machine]
    return supervise(workers, shared, others)


def gpu_names(numbers: Sequence[int]) -> str:
    """The GPUs as Paddle's spawn expects them: with their names in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else None
    return ",".join(names[number].strip() if names else str(number) for number in numbers)


def _run_worker(job: Job) -> None:
    """The main function of a worker process: joins the group, runs the body, reports."""
    layout, local = job.layout, int(os.environ["PADDLE_TRAINER_ID"])
    for k, other in enumerate(job.reports):
        if k != local:
            other.close()
    exit_with_parent()
    for number in set(stop_signals.ALL) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)  # the supervisor receives them and passes them on
    _set_ranks(layout, local)
    rank = layout.first_rank + local
    with terminal.session(silent=rank > 0):
        try:
            _use_own_device(layout.devices)
            count = len(layout.devices.numbers)
            group = join(job.shared, local, count, layout.device_names)
            result = job.body(job.argument, group)
            group.leave()
            outcome = Outcome(result if group.is_main else None)
        except BaseException as error:  # the supervisor decides about all of them
            known: BaseException | None = error
            if isinstance(error, OSError):
                known = cache.explain(error) or error
            if isinstance(error, Exception) and not isinstance(known, PaddlexMLError | PeerLost):
                known = RuntimeError(f"process {rank} failed:\n{traceback.format_exc()}")
            outcome = Outcome(error=known)
    with suppress(OSError):  # the supervisor is gone
        job.reports[local].send(outcome)


def _use_own_device(devices: Devices) -> None:
    number = os.environ.get(_GPU, "0").split(",")[0]
    use("cpu" if devices.kind == "cpu" else f"gpu:{number}")


def _set_ranks(layout: Layout, local: int) -> None:
    """Number this process through all machines; Paddle's spawn numbers one machine only."""
    if len(layout.addresses) == 1:
        return
    port, count = int(os.environ.get("PADDLE_PORT", PORT)), len(layout.devices.numbers)
    endpoints = [f"{address}:{port + 2 + k}" for address in layout.addresses for k in range(count)]
    rank = layout.first_rank + local
    os.environ |= {
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(endpoints)),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        "PADDLE_MASTER": f"{layout.addresses[0]}:{port}",
    }
    own = addresses.resolve(layout.addresses[layout.machine])
    for interface, items in psutil.net_if_addrs().items():
        if own & {item.address for item in items}:  # else the host's name decides: often loopback
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
            break


def _run_launched(body: Body, argument: Any, devices: Devices) -> Any:
    """Be one process of a job that Paddle's launcher has started and supervises."""
    endpoints = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    hosts = [endpoint.split(":")[0] for endpoint in endpoints]
    ranks_here = [k for k, host in enumerate(hosts) if host == hosts[rank]]
    _use_own_device(devices)
    if devices.kind == "cpu":
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "gloo")
    shared = SharedState([0] * len(ranks_here), [0] * len(ranks_here), [0])
    try:
        group = join(shared, ranks_here.index(rank), len(ranks_here), endpoints)
        result = body(argument, group)
        group.leave()
        return result
    except PeerLost as error:
        raise PaddlexMLError(
            f"process {rank} of {len(endpoints)} lost the connection to another one: {error}",
            where=endpoints[rank],
            fix="look for the first error in the logs of the other processes",
        ) from error


@contextmanager
def _without_start_messages() -> Iterator[None]:
    """Silence what Paddle logs, here and in the workers, when it starts them: nothing to act on."""
    root, filters = logging.getLogger(), os.environ.get("PYTHONWARNINGS")
    level = root.level
    root.setLevel(logging.WARNING)
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        del os.environ["PYTHONWARNINGS"]
        if filters is not None:
            os.environ["PYTHONWARNINGS"] = filters
