# SPDX-License-Identifier: Apache-2.0
"""The process that the workers of a loader are forked from. Imports nothing large."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import BaseContext

from paddlex_ml import stop_signals, systems
from paddlex_ml.storage import temporary

_PRELOADED = ["paddlex_ml.data.worker", "paddlex_ml.data.preload"]


def start() -> BaseContext:
    """Start the server of this process, unless it runs; returns the context to start workers with.

    Its own imports take a second. Where a system has no such server (Windows), or no place for its
    socket, each worker is a new process that imports for itself; also on macOS, whose libraries may
    start threads, so that no fork is safe.
    """
    has_server = "forkserver" in multiprocessing.get_all_start_methods() and not systems.IS_MACOS
    if has_server and temporary.shorten_socket_paths():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        stop_signals.start_fork_server()
        return context
    stop_signals.start_tracker()
    return multiprocessing.get_context("spawn")
