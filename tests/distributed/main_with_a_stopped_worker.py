# SPDX-License-Identifier: Apache-2.0
"""main.py whose worker of rank 1 is stopped after some steps, with a short limit for collectives.

It is stopped while it works, never inside a collective: there the supervisor cannot tell it from
its peer before Paddle's network gives up, which takes 30 seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

COLLECTIVES = 20  # a step has some


def stop_while_working(pid: int, shared: Any, working: int) -> None:
    """Stop the process of rank 1 at a moment when its phase is `working`."""
    while True:
        if shared.collectives[1] >= COLLECTIVES and shared.phases[1] == working:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.1)
            if shared.phases[1] == working:
                return
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)


if __name__ in ("__main__", "__mp_main__"):  # worker processes import this file, too
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests import small_main

    sys.meta_path.insert(0, small_main.SmallModels())

if __name__ == "__main__":
    from paddlex_ml import cli, paddle_runtime

    paddle_runtime.prepare()  # before these modules import Paddle
    from paddlex_ml.distributed import launch, supervisor
    from paddlex_ml.distributed.group import Phase

    def supervise(workers: Any, shared: Any, others: Any) -> Any:
        arguments = (workers[1].process.pid, shared, Phase.WORKING)
        Thread(target=stop_while_working, args=arguments, daemon=True).start()
        return supervisor.supervise(workers, shared, others)

    supervisor.COLLECTIVE_LIMIT = 5.0
    vars(launch)["supervise"] = supervise
    sys.exit(cli.main())
