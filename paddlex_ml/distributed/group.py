# SPDX-License-Identifier: Apache-2.0
"""The processes that train one model together. A process by itself is a team of one.

Every member holds the same weights and works on its own share of each batch; what they agree on
passes through here. All members make the same calls in the same order: a call that one of them
leaves out is a silence that ends the training.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

import paddle
import paddle.distributed as dist
from paddle.base.core import TCPStore
from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients

from paddlex_ml.errors import PaddlexMLError

Item = TypeVar("Item")

START_LIMIT = 60
"""Seconds within which all members must have started."""


LEAVE_LIMIT = 10
"""Seconds that the leader waits for the others at the end."""
_BROKEN = (RuntimeError, ValueError)  # what Paddle raises when a member is gone or silent


class PeerLost(Exception):
    """Another member is gone, silent or has failed: its own error is the one to tell."""


class Phase(IntEnum):
    """What a member does, for whoever watches over the processes of a machine."""

    STARTING = 0
    WORKING = 1
    COLLECTIVE = 2
    """Waits for the others, who must come soon."""
    WAITING_FOR_MAIN = 3
    """Waits for the leader's work alone, which may take long."""


@dataclass(frozen=True)
class SharedState:
    """What the members of one machine and their supervisor see of each other: shared memory."""

    phases: MutableSequence[int]
    """Phase of each member of this machine."""
    collectives: MutableSequence[int]
    """How often each of them has met the others."""
    stop: MutableSequence[int]
    """One number: the signal that asks for a stop, 0 = none."""


def _own_signs() -> SharedState:
    return SharedState([Phase.WORKING], [0], [0])


@dataclass(frozen=True)
class ProcessGroup:
    """A member's view: its rank among `size`, and what all of them do together."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Place among the members of this machine."""
    shared: SharedState = field(default_factory=_own_signs, repr=False)
    store: Any = field(default=None, repr=False)
    """paddle's TCPStore, which the leader keeps; None in a team of one."""
    local_size: int = 1
    """Members on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this member alone writes files and log lines."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This member's share of `items`: every `size`-th one."""
        return items[self.rank :: self.size]

    def batch_shard(self, batch: Sequence[Item]) -> Sequence[Item]:
        """This member's part of one batch; the parts differ by one item at most."""
        begin, end = (len(batch) * k // self.size for k in (self.rank, self.rank + 1))
        return batch[begin:end]

    def all_gather(self, items: Sequence[Item]) -> list[Item]:
        """All items, in the order that they had before `shard`, on every member."""
        if self.size == 1:
            return list(items)
        shares: list[list[Item]] = []
        with self._collective():
            dist.all_gather_object(shares, list(items))
        rounds = max(map(len, shares))
        return [share[k] for k in range(rounds) for share in shares if k < len(share)]

    def all_reduce_sum(self, number: float) -> float:
        """The sum of the members' numbers."""
        return self._reduced([number], dist.ReduceOp.SUM)[0]

    def all_reduce_max(self, numbers: Sequence[float]) -> list[float]:
        """The largest of the members' numbers, place by place."""
        return self._reduced(numbers, dist.ReduceOp.MAX)

    def _reduced(self, numbers: Sequence[float], operation: Any) -> list[float]:
        if self.size == 1:
            return list(numbers)
        with self._collective():
            tensor = paddle.to_tensor(list(numbers), dtype="float64")
            dist.all_reduce(tensor, op=operation)
            result: list[float] = tensor.numpy().tolist()
        return result

    def all_reduce_sum_tensor(self, tensor: paddle.Tensor) -> paddle.Tensor:
        """The sum of the members' tensors; without a gradient."""
        if self.size > 1:
            with self._collective():
                tensor = tensor.clone()
                dist.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Give every parameter the mean of the members' gradients; no gradient stays none."""
        if self.size > 1:
            with self._collective():
                fused_allreduce_gradients(list(parameters), None)  # type: ignore[no-untyped-call]

    def all_reduce_mean(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Replace every tensor by the mean of the members' tensors of this name."""
        if self.size == 1 or not tensors:
            return
        with self._collective(), paddle.no_grad():
            flat = paddle.concat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = paddle.split(flat / self.size, [tensor.size for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                paddle.assign(part.reshape(tensor.shape), tensor)

    @contextmanager
    def main_first(self, work: str) -> Iterator[bool]:
        """Yield True to the leader, who does some work alone; the others wait for its end.

        `work` names it, and no two works have one name. Not a collective of Paddle: those give up
        after 30 seconds on a CPU, and a large checkpoint may take longer.
        """
        if self.size == 1 or self.is_main:
            yield True
            if self.size > 1:
                self.store.set(f"done/{work}", "1")
            return
        yield False
        self.shared.phases[self.local] = Phase.WAITING_FOR_MAIN
        try:
            self.store.wait(f"done/{work}")
        except _BROKEN as error:
            raise PeerLost(f"the leader ended during: {work}") from error
        self.shared.phases[self.local] = Phase.WORKING

    def leave(self) -> None:
        """Part at the end: the leader, who keeps the store, goes last."""
        if self.size == 1:
            return
        deadline = time.monotonic() + LEAVE_LIMIT
        with suppress(*_BROKEN):
            self.store.add(f"left/{self.rank}", 1)
            while self.is_main and time.monotonic() < deadline:
                if all(self.store.add(f"left/{k}", 0) for k in range(self.size)):
                    return

    @contextmanager
    def _collective(self) -> Iterator[None]:
        self.shared.phases[self.local] = Phase.COLLECTIVE
        try:
            yield
        except _BROKEN as error:
            raise PeerLost(str(error).strip().splitlines()[-1]) from error
        self.shared.collectives[self.local] += 1
        self.shared.phases[self.local] = Phase.WORKING


def join(shared: SharedState, local: int, local_size: int, places: Sequence[str]) -> ProcessGroup:
    """Become a member, as Paddle's environment variables say (PADDLE_TRAINER_ID and the like).

    `places` describes each rank for errors. Raises PaddlexMLError naming the members that have not
    come within PATIENCE seconds.
    """
    rank, size = int(os.environ["PADDLE_TRAINER_ID"]), int(os.environ["PADDLE_TRAINERS_NUM"])
    store = _wait_for_all_ranks(rank, size, places)
    with redirect_stderr(io.StringIO()):  # a list of flags that Paddle itself has set
        dist.init_parallel_env()
    group = ProcessGroup(rank, size, local, shared, store, local_size)
    group.all_reduce_sum(1.0)  # the first word through the network that the training will use
    return group


def _wait_for_all_ranks(rank: int, size: int, places: Sequence[str]) -> Any:
    """Wait until all members are here; Paddle's own start would wait for ever, for no one named."""
    host, port = store_address()
    if rank == 0:
        _refuse_taken_port(port, places[rank])
    try:
        store = TCPStore(host, port, rank == 0, 1, START_LIMIT)
    except _BROKEN as error:
        raise PaddlexMLError(
            f"process {rank} of {size} cannot reach process 0 at {host}:{port}",
            where=places[rank],
            fix="start the same command on every machine within a minute, open that port between "
            "them, or choose another with the environment variable PADDLE_PORT",
        ) from error
    store.add(f"here/{rank}", 1)
    if rank != 0:
        store.wait("all here")
        return store
    deadline = time.monotonic() + START_LIMIT
    missing = list(range(size))
    while missing := [k for k in missing if store.add(f"here/{k}", 0) == 0]:
        if time.monotonic() > deadline:
            raise PaddlexMLError(
                f"{len(missing)} of {size} processes did not start within {START_LIMIT} seconds: "
                + ", ".join(f"{k} ({places[k]})" for k in missing),
                where="start of the processes",
                fix="start the same command on every machine; look at the first error there",
            )
    store.set("all here", "1")
    return store


def _refuse_taken_port(port: int, place: str) -> None:
    """Raise PaddlexMLError where Paddle would abort the process."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed a moment ago: free
        try:
            probe.bind(("", port))
        except OSError as error:
            raise PaddlexMLError(
                f"port {port} of this machine cannot be used: {error.strerror}",
                where=place,
                fix="another training may be running here: choose another port, the same on all "
                "machines, with the environment variable PADDLE_PORT",
            ) from error


def store_address() -> tuple[str, int]:
    """Address of the leader's store, beside the one that Paddle itself keeps."""
    if master := os.environ.get("PADDLE_MASTER"):
        host, _, port = master.rpartition(":")
        return host, int(port) + 1
    ends = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")
    # Paddle has looked for a free port for each process, and uses that of the first alone.
    return ends[0].rpartition(":")[0], int(ends[-1].rpartition(":")[2])
