# SPDX-License-Identifier: Apache-2.0
"""Which machine of a training this one is, and whether this process writes the results.

Does not import Paddle: the command line needs this module earlier.
"""

from __future__ import annotations

import os
import socket

from paddlex_ml.errors import PaddlexMLError


def is_launched() -> bool:
    """Whether paddle.distributed.launch has started this process as one of several."""
    several = int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1
    return several and "PADDLE_TRAINER_ID" in os.environ


def is_main_process(ips: str | None = None) -> bool:
    """Whether this process writes the results; `ips` are the machines of the training."""
    if is_launched():
        return os.environ["PADDLE_TRAINER_ID"] == "0"
    return ips is None or find_machine(ips)[1] == 0


def find_machine(ips: str) -> tuple[tuple[str, ...], int]:
    """All addresses, and the index of this machine's own.

    That is the address in the environment variable POD_IP, as for Paddle's launcher, or else the
    address of a network interface. Raises PaddlexMLError unless there is exactly one.
    """
    addresses = tuple(ips.split(","))
    wanted = os.environ.get("POD_IP")
    import psutil  # takes 10 ms, which most commands need not wait for

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
        fix="set the environment variable POD_IP to this machine's address in Train.dist_ips; its "
        "network interfaces have " + ", ".join(sorted(a for a in own if a.count(".") == 3)),
    )


def resolve(address: str) -> set[str]:
    """Network addresses of a host name or an address; none if it is unknown."""
    try:
        return set(socket.gethostbyname_ex(address)[2])
    except OSError:
        return set()
