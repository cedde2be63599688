# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from itertools import chain

import pytest

from paddlex_ml.devices import Devices
from paddlex_ml.distributed import group, launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.errors import PaddlexMLError
from tests import ranks

EXPECTED = {
    "shard": [0, 2, 4],
    "all_gather": [[0], [1, 1], [2, 2, 2], [3] * 4, [4] * 5],  # in the order before `shard`
    "unused": None,
    "main_first": [True, True],
}


@pytest.mark.story
def test_two_ranks_agree_on_everything() -> None:
    result = launch.run(ranks.talk, None, Devices("cpu", (0, 1)))
    assert result == EXPECTED | {
        "all_reduce_sum": 1.5,
        "all_reduce_max": [1.0, 0.0],
        "batch_shard": [0, 1],
        "all_reduce_sum_tensor": [3.0],
        "gradient": [1.5, 1.5],
        "means": [[0.5, 0.5], [[1.5]]],
    }


def test_a_single_process_is_a_group_of_one() -> None:
    result = ranks.talk(None, ProcessGroup())
    assert result == EXPECTED | {
        "all_reduce_sum": 0.25,
        "all_reduce_max": [0.0, 0.0],
        "batch_shard": [0, 1, 2, 3, 4],
        "shard": [0, 1, 2, 3, 4],
        "all_reduce_sum_tensor": [1.0],
        "gradient": [1.0, 1.0],
        "means": [[0.0, 0.0], [[0.0]]],
    }


def test_the_main_process_serves_its_store_where_paddle_serves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PADDLE_MASTER", raising=False)
    monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", "127.0.0.1:4001,127.0.0.1:4500")
    assert group.store_address() == ("127.0.0.1", 4500)
    monkeypatch.setenv("PADDLE_MASTER", "10.0.0.6:6170")
    assert group.store_address() == ("10.0.0.6", 6171)


def test_a_port_that_another_program_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("PADDLE_MASTER", f"127.0.0.1:{port - 1}")
        monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
        monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
        with pytest.raises(PaddlexMLError) as caught:
            group.join(group.SharedState([0], [0], [0]), 0, 1, ["cpu:0 of a", "cpu:0 of b"])
    assert caught.value.what.startswith(f"port {port} of this machine cannot be used: Address al")
    assert caught.value.where == "cpu:0 of a"
    assert "PADDLE_PORT" in caught.value.fix


def test_shards_of_a_batch_differ_by_one_image_at_most() -> None:
    for size in (2, 3, 5):
        for length in (size, 7, 8):
            shards = [
                list(ProcessGroup(rank, size).batch_shard(range(length))) for rank in range(size)
            ]
            assert list(chain(*shards)) == list(range(length))
            assert max(map(len, shards)) - min(map(len, shards)) <= 1
