# SPDX-License-Identifier: Apache-2.0
"""Which machine of a training this one is, and whether this process writes the results.

Without Paddle: the command line asks before Paddle is imported.
"""

from __future__ import annotations

import os
import socket

import psutil

from paddlex_ml.errors import PaddlexMLError


def is_launched() -> bool:
    """Whether this process is a member of a job that paddle.distributed.launch has started."""
    several = int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1
    return several and "PADDLE_TRAINER_ID" in os.environ


def is_main_process(ips: str | None = None) -> bool:
    """Whether this process writes the results of its job, which machines `ips` may share."""
    if is_launched():
        return os.environ["PADDLE_TRAINER_ID"] == "0"
    return ips is None or find_machine(ips)[1] == 0


def find_machine(ips: str) -> tuple[tuple[str, ...], int]:
    """All addresses, and the number of the one that is this machine's own.

    It is that of the environment variable POD_IP, as for Paddle's launcher, or else the one that a
    network interface has. Raises PaddlexMLError unless it is exactly one.
    """
    addresses = tuple(ips.split(","))
    wanted = os.environ.get("POD_IP")
    own = {item.address for items in psutil.net_if_addrs().values() for item in items}
    if wanted is None:
        mine = [k for k, address in enumerate(addresses) if own & resolve(address)]
    else:
        mine = [k for k, address in enumerate(addresses) if address == wanted]
    if len(mine) == 1:
        return addresses, mine[0]
    what = f"{len(mine)} of them are addresses" if mine else "none of them is an address"
    raise PaddlexMLError(
        f"Train.dist_ips is {ips}, and {what} of this machine",
        where=f"POD_IP={wanted}" if wanted else "Train.dist_ips",
        fix="name this machine by the environment variable POD_IP, one of these addresses; its "
        "network interfaces have " + ", ".join(sorted(a for a in own if a.count(".") == 3)),
    )


def resolve(address: str) -> set[str]:
    """Network addresses of a name or an address; none for an unknown one."""
    try:
        return set(socket.gethostbyname_ex(address)[2])
    except OSError:
        return set()
