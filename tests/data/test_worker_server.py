# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from typing import Any

import pytest

from paddlex_ml.data import worker_server
from paddlex_ml.storage import temporary


@pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="has no server of workers"
)
def test_the_server_is_started_once() -> None:
    server: Any = forkserver._forkserver
    assert worker_server.start().get_start_method() == "forkserver"
    process = server._forkserver_pid
    assert process is not None
    assert worker_server.start().get_start_method() == "forkserver"
    assert server._forkserver_pid == process


@pytest.mark.parametrize("lacks", ["server", "place for its socket"])
def test_without_a_server_each_worker_imports_for_itself(
    monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    if lacks == "server":
        monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    else:
        monkeypatch.setattr(temporary, "shorten_socket_paths", lambda: False)
    assert worker_server.start().get_start_method() == "spawn"
