# SPDX-License-Identifier: Apache-2.0
"""Runs one function as a team of processes: where they are, how they start, how they report.

this command, the supervisor  --paddle.distributed.spawn-->  members 0, 1, ... of this machine
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

from paddlex_ml import paddle_runtime, terminal
from paddlex_ml.devices import Devices, use
from paddlex_ml.distributed import addresses
from paddlex_ml.distributed.group import PeerLost, ProcessGroup, SharedState, join
from paddlex_ml.distributed.parent import exit_with_parent
from paddlex_ml.distributed.supervisor import Outcome, WorkerProcess, supervise
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files

logger = logging.getLogger(__name__)

Body = Callable[[Any, ProcessGroup], Any]

PORT = 6170  # Paddle's own first choice
_CARD = "FLAGS_selected_gpus"  # the card that Paddle's spawn and launcher give a process


@dataclass(frozen=True)
class Layout:
    """Which processes there are, on all machines; ranks count through them in this order."""

    devices: Devices
    """On each of the machines."""
    addresses: tuple[str, ...] = ("127.0.0.1",)
    machine: int = 0
    """Which of the addresses is this machine's."""

    @property
    def places(self) -> list[str]:
        """Device of every rank, and its machine where there are several."""
        kind, several = self.devices.kind, len(self.addresses) > 1
        return [
            f"{kind}:{number}" + (f" of {address}" if several else "")
            for address in self.addresses
            for number in self.devices.numbers
        ]

    @property
    def first(self) -> int:
        """Rank of this machine's first process."""
        return self.machine * len(self.devices.numbers)


def run(body: Body, argument: Any, devices: Devices, ips: str | None = None) -> Any:
    """Run `body(argument, team)` in as many processes as there are devices on all machines.

    One device on one machine runs here, in this process, and so does a member that
    `paddle.distributed.launch` has started. `body` and `argument` must be picklable. Returns what
    the leader returned. Raises what ended the team: PaddlexMLError, Stopped, or RuntimeError with
    the traceback of a bug.
    """
    if addresses.is_launched():
        return _run_launched(body, argument, devices)
    layout = Layout(devices, *addresses.find_machine(ips)) if ips else Layout(devices)
    if len(layout.places) == 1:
        use(devices.first)
        return body(argument, ProcessGroup())
    return _run_team(body, argument, layout)


class _Post(NamedTuple):
    """What every member is given when it starts."""

    body: Body
    argument: Any
    layout: Layout
    shared: SharedState
    reports: list[Connection]


def _run_team(body: Body, argument: Any, layout: Layout) -> Any:
    count, spawning = len(layout.devices.numbers), get_context("spawn")
    shared = SharedState(*(spawning.RawArray("i", n) for n in (count, count, 1)))
    pipes = [spawning.Pipe(duplex=False) for _ in range(count)]
    post = _Post(body, argument, layout, shared, [sender for _, sender in pipes])
    here = layout.places[layout.first : layout.first + count]
    logger.info("starting %d processes: %s", count, ", ".join(here))
    paddle_runtime.share_cores(count)
    context = _spawn(post, layout.devices)  # holds what the members' start needs: keep it
    for _, sender in pipes:
        sender.close()  # so that the death of a member ends its pipe
    members = [
        WorkerProcess(layout.first + k, place, process, receiver)
        for k, (place, process, (receiver, _)) in enumerate(
            zip(here, context.processes, pipes, strict=True)
        )
    ]
    others = [a for k, a in enumerate(layout.addresses) if k != layout.machine]
    return supervise(members, shared, others)


def _spawn(post: _Post, devices: Devices) -> Any:
    options: dict[str, Any] = {"backend": "gloo"}
    if devices.kind == "gpu":
        options = {"backend": "nccl", "gpus": gpu_names(devices.numbers)}
    with _quiet():
        return dist.spawn(_member, (post,), len(devices.numbers), join=False, **options)


def gpu_names(numbers: Sequence[int]) -> str:
    """The cards as Paddle's spawn wants them: not by their place in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else None
    return ",".join(names[number].strip() if names else str(number) for number in numbers)


def _member(post: _Post) -> None:
    """The life of one spawned process."""
    local = int(os.environ["PADDLE_TRAINER_ID"])
    report = post.reports[local]
    for other in post.reports:
        if other is not report:
            other.close()
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears it, and passes it on
    _set_ranks(post.layout, local)
    with terminal.session(silent=post.layout.first + local > 0):
        outcome = _live(post, local)
    with suppress(OSError):  # the supervisor is gone
        report.send(outcome)


def _live(post: _Post, local: int) -> Outcome:
    devices = post.layout.devices
    try:
        use(_own_device(devices))
        group = join(post.shared, local, len(devices.numbers), post.layout.places)
        result = post.body(post.argument, group)
        group.leave()
        return Outcome(result if group.is_main else None)
    except BaseException as error:  # whatever it was, the supervisor is to tell it
        known: BaseException | None = error
        if isinstance(error, OSError):
            known = files.explain(error) or error
        if isinstance(known, PaddlexMLError | PeerLost) or not isinstance(error, Exception):
            return Outcome(error=known)
        what = f"process {post.layout.first + local} failed:\n{traceback.format_exc()}"
        return Outcome(error=RuntimeError(what))


def _own_device(devices: Devices) -> str:
    number = os.environ.get(_CARD, "0").split(",")[0]
    return "cpu" if devices.kind == "cpu" else f"gpu:{number}"


def _set_ranks(layout: Layout, local: int) -> None:
    """Number this process through all machines; Paddle's spawn knows of one machine only."""
    if len(layout.addresses) == 1:
        return
    port, count = int(os.environ.get("PADDLE_PORT", PORT)), len(layout.devices.numbers)
    ends = [f"{address}:{port + 2 + k}" for address in layout.addresses for k in range(count)]
    rank = layout.first + local
    os.environ |= {
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(ends)),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(ends),
        "PADDLE_CURRENT_ENDPOINT": ends[rank],
        "PADDLE_MASTER": f"{layout.addresses[0]}:{port}",
    }
    interface = _interface(layout.addresses[layout.machine])
    if interface:  # else the host's name decides, which often means the loopback
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)


def _run_launched(body: Body, argument: Any, devices: Devices) -> Any:
    """Be one member of a job that somebody else has started and watches over."""
    ends = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    here = [k for k, end in enumerate(ends) if end.split(":")[0] == ends[rank].split(":")[0]]
    use(_own_device(devices))
    if devices.kind == "cpu":
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "gloo")
    shared = SharedState([0] * len(here), [0] * len(here), [0])
    try:
        group = join(shared, here.index(rank), len(here), ends)
        result = body(argument, group)
        group.leave()
        return result
    except PeerLost as error:
        raise PaddlexMLError(
            f"process {rank} of {len(ends)} lost contact with another one: {error}",
            where=ends[rank],
            fix="look for the first error in the logs of the other processes",
        ) from error


def _interface(address: str) -> str | None:
    """Name of the network interface with this address."""
    resolved = addresses.resolve(address)
    interfaces = psutil.net_if_addrs().items()
    return next((n for n, items in interfaces if resolved & {i.address for i in items}), None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Paddle says, here and there, when it starts processes: nothing to act on."""
    root, spoken = logging.getLogger(), os.environ.get("PYTHONWARNINGS")
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
        if spoken is not None:
            os.environ["PYTHONWARNINGS"] = spoken
