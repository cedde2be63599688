# SPDX-License-Identifier: Apache-2.0
"""The process group that trains one model. A single process is a group of one.

Every process holds the same weights and works on its own shard of each batch. All of them make the
same collective calls in the same order: if one leaves out a call, the others wait for it in vain
and the training ends.
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
"""Seconds within which all processes must have started."""
LEAVE_LIMIT = 10
"""Seconds that the main process waits for the others at the end."""
_BROKEN = (RuntimeError, ValueError)  # what Paddle raises when a peer is gone or does not respond


class PeerLost(Exception):
    """A peer has ended, failed or does not respond: the cause is its error, not this one."""


class Phase(IntEnum):
    """What a process does now, for the supervisor of its machine."""

    STARTING = 0
    WORKING = 1
    COLLECTIVE = 2
    """Waits in a collective for its peers, which must arrive soon."""
    WAITING_FOR_MAIN = 3
    """Waits for work of the main process, which may take long."""


@dataclass(frozen=True)
class SharedState:
    """The memory that the processes of one machine share with their supervisor."""

    phases: MutableSequence[int]
    """Phase of each process of this machine."""
    collectives: MutableSequence[int]
    """How many collectives each of them has finished."""
    stop: MutableSequence[int]
    """One number: the signal that asks for a stop, 0 = none."""


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process among `size`, and the collectives of all of them."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Rank among the processes of this machine."""
    shared: SharedState = field(
        default_factory=lambda: SharedState([Phase.WORKING], [0], [0]), repr=False
    )
    store: Any = field(default=None, repr=False)
    """Paddle's TCPStore, which the main process serves; None in a group of one."""
    local_size: int = 1
    """Processes on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and log lines."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's shard of `items`: every `size`-th one."""
        return items[self.rank :: self.size]

    def batch_shard(self, batch: Sequence[Item]) -> Sequence[Item]:
        """This rank's shard of one batch; the lengths of the shards differ by one at most."""
        begin, end = (len(batch) * k // self.size for k in (self.rank, self.rank + 1))
        return batch[begin:end]

    def all_gather(self, items: Sequence[Item]) -> list[Item]:
        """All items, in the order that they had before `shard`, on every rank."""
        if self.size == 1:
            return list(items)
        shards: list[list[Item]] = []
        with self.collective():
            dist.all_gather_object(shards, list(items))
        longest = max(map(len, shards))
        return [shard[k] for k in range(longest) for shard in shards if k < len(shard)]

    def all_reduce_sum(self, number: float) -> float:
        """The sum of the numbers of all ranks."""
        if self.size == 1:
            return number
        tensor = self.all_reduce_sum_tensor(paddle.to_tensor([number], dtype="float64"))
        return float(tensor[0])

    def all_reduce_max(self, numbers: Sequence[float]) -> list[float]:
        """The largest of the ranks' numbers at each position."""
        if self.size == 1:
            return list(numbers)
        with self.collective():
            tensor = paddle.to_tensor(list(numbers), dtype="float64")
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
            result: list[float] = tensor.numpy().tolist()
        return result

    def all_reduce_sum_tensor(self, tensor: paddle.Tensor) -> paddle.Tensor:
        """The sum of the ranks' tensors; without a gradient."""
        if self.size > 1:
            with self.collective():
                tensor = tensor.clone()
                dist.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Give every parameter the mean of the ranks' gradients; no gradient stays none."""
        if self.size > 1:
            with self.collective():
                fused_allreduce_gradients(list(parameters), None)  # type: ignore[no-untyped-call]

    def all_reduce_mean(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Replace every tensor by its mean over the ranks."""
        if self.size == 1 or not tensors:
            return
        with self.collective(), paddle.no_grad():
            flat = paddle.concat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            means = paddle.split(flat / self.size, [tensor.size for tensor in tensors])
            for tensor, mean in zip(tensors, means, strict=True):
                paddle.assign(mean.reshape(tensor.shape), tensor)

    @contextmanager
    def main_first(self, work: str) -> Iterator[bool]:
        """Yield True in the main process, which works alone; the others wait until it is done.

        `work` is the name of that work, a different one each time. This is no collective of Paddle:
        those give up after 30 seconds on a CPU, and a large checkpoint may take longer.
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
            raise PeerLost(f"the main process ended during: {work}") from error
        self.shared.phases[self.local] = Phase.WORKING

    def leave(self) -> None:
        """Leave the group at the end: the main process, which serves the store, leaves last."""
        if self.size == 1:
            return
        deadline = time.monotonic() + LEAVE_LIMIT
        with suppress(*_BROKEN):
            self.store.add(f"left/{self.rank}", 1)
            while self.is_main and time.monotonic() < deadline:
                if all(self.store.add(f"left/{k}", 0) for k in range(self.size)):
                    return

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Record that this process waits for its peers. Raises PeerLost if one is lost."""
        self.shared.phases[self.local] = Phase.COLLECTIVE
        try:
            yield
        except _BROKEN as error:
            raise PeerLost(str(error).strip().splitlines()[-1]) from error
        self.shared.collectives[self.local] += 1
        self.shared.phases[self.local] = Phase.WORKING


def join(shared: SharedState, local: int, local_size: int, devices: Sequence[str]) -> ProcessGroup:
    """Join the group that Paddle's environment variables describe (PADDLE_TRAINER_ID and others).

    `devices` describes each rank for errors. Raises PaddlexMLError with the ranks that did not
    start within START_LIMIT seconds; Paddle's own start would wait for ever and name none.
    """
    rank, size = int(os.environ["PADDLE_TRAINER_ID"]), int(os.environ["PADDLE_TRAINERS_NUM"])
    store = _open_store(rank, size, devices[rank])
    store.add(f"started/{rank}", 1)
    if rank == 0:
        deadline = time.monotonic() + START_LIMIT
        missing = list(range(size))
        while missing := [k for k in missing if store.add(f"started/{k}", 0) == 0]:
            if time.monotonic() > deadline:
                raise PaddlexMLError(
                    f"{len(missing)} of {size} processes did not start within {START_LIMIT} "
                    "seconds: " + ", ".join(f"{k} ({devices[k]})" for k in missing),
                    where="start of the processes",
                    fix="start the same command on every machine; look at the first error there",
                )
        store.set("all started", "1")
    else:
        store.wait("all started")
    with redirect_stderr(io.StringIO()):  # a list of flags that Paddle itself has set
        dist.init_parallel_env()
    group = ProcessGroup(rank, size, local, shared, store, local_size)
    group.all_reduce_sum(1.0)  # the first collective in the network that the training will use
    return group


def _open_store(rank: int, size: int, device: str) -> Any:
    """Serve the store in rank 0, connect to it in the others."""
    host, port = store_address()
    if rank == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # just closed is free
            try:
                probe.bind(("", port))
            except OSError as error:  # Paddle would abort the process
                raise PaddlexMLError(
                    f"port {port} of this machine cannot be used: {error.strerror}",
                    where=device,
                    fix="another training may be running here: choose another port, the same on "
                    "all machines, with the environment variable PADDLE_PORT",
                ) from error
    try:
        return TCPStore(host, port, rank == 0, 1, START_LIMIT)
    except _BROKEN as error:
        raise PaddlexMLError(
            f"process {rank} of {size} cannot reach process 0 at {host}:{port}",
            where=device,
            fix="start the same command on every machine within a minute, open that port between "
            "them, or choose another with the environment variable PADDLE_PORT",
        ) from error


def store_address() -> tuple[str, int]:
    """Address of the main process's store, beside the one that Paddle itself serves."""
    if master := os.environ.get("PADDLE_MASTER"):
        host, _, port = master.rpartition(":")
        return host, int(port) + 1
    ends = os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")
    # Paddle has looked for a free port for each process, and uses that of the first alone.
    return ends[0].rpartition(":")[0], int(ends[-1].rpartition(":")[2])
