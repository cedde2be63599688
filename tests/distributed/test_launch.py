# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from paddlex_ml import paddle_runtime
from paddlex_ml.devices import Devices
from paddlex_ml.distributed import addresses, launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.distributed.launch import Layout, gpu_names
from paddlex_ml.errors import PaddlexMLError


@pytest.fixture(autouse=True)
def two_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has the addresses 10.0.0.7 and 127.0.0.1, and no other variables of Paddle."""
    interfaces = {name: [SimpleNamespace(address=a)] for name, a in NETWORK.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    for name in list(os.environ):
        if name.startswith(("PADDLE_", "POD_IP", "CUDA_", "GLOO_", "NCCL_")):
            monkeypatch.delenv(name)


NETWORK = {"lo": "127.0.0.1", "eth1": "10.0.0.7"}


def test_ranks_count_through_the_devices_of_all_machines() -> None:
    layout = Layout(Devices("gpu", (2, 3)), ("10.0.0.6", "10.0.0.7"), machine=1)
    assert layout.first_rank == 2
    assert layout.device_names == [
        *("gpu:2 of 10.0.0.6", "gpu:3 of 10.0.0.6", "gpu:2 of 10.0.0.7", "gpu:3 of 10.0.0.7")
    ]
    assert Layout(Devices("cpu", (0, 1))).device_names == ["cpu:0", "cpu:1"]


def test_a_machine_finds_itself_among_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses.find_machine("10.0.0.6,10.0.0.7") == (("10.0.0.6", "10.0.0.7"), 1)
    monkeypatch.setenv("POD_IP", "10.0.0.6")
    assert addresses.find_machine("10.0.0.6,10.0.0.7")[1] == 0
    assert addresses.is_main_process("10.0.0.6,10.0.0.7")
    assert not addresses.is_main_process("10.0.0.7,10.0.0.6")


@pytest.mark.parametrize(
    ("ips", "own", "problem"),
    [
        ("10.0.0.1,10.0.0.2", None, "none of them is an address of this machine"),
        ("10.0.0.7,127.0.0.1", None, "2 of them are addresses of this machine"),
        ("10.0.0.7,10.0.0.8", "10.0.0.9", "none of them is an address of this machine"),
    ],
)
def test_a_machine_that_cannot_find_itself_asks_for_pod_ip(
    monkeypatch: pytest.MonkeyPatch, ips: str, own: str | None, problem: str
) -> None:
    if own:
        monkeypatch.setenv("POD_IP", own)
    with pytest.raises(PaddlexMLError) as caught:
        addresses.find_machine(ips)
    assert problem in caught.value.what
    assert caught.value.where == (f"POD_IP={own}" if own else "Train.dist_ips")
    assert "POD_IP" in caught.value.fix
    assert "10.0.0.7, 127.0.0.1" in caught.value.fix


def test_a_process_on_several_machines_gets_its_rank_and_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TRAINER_ID", "TRAINERS_NUM", "TRAINER_ENDPOINTS", "CURRENT_ENDPOINT", "MASTER"):
        monkeypatch.setenv(f"PADDLE_{name}", "one machine's")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "mine")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME")
    layout = Layout(Devices("gpu", (0, 1)), ("10.0.0.6", "10.0.0.7"), machine=1)
    launch._set_ranks(layout, local=1)
    assert os.environ["PADDLE_TRAINER_ID"] == "3"
    assert os.environ["PADDLE_TRAINERS_NUM"] == "4"
    assert os.environ["PADDLE_MASTER"] == "10.0.0.6:6170"
    assert os.environ["PADDLE_CURRENT_ENDPOINT"] == "10.0.0.7:6173"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
    assert os.environ["NCCL_SOCKET_IFNAME"] == "eth1"


def test_gpus_are_named_as_paddle_expects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_names((0, 2)) == "0,2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,7")
    assert gpu_names((0, 2)) == "4,7"


def test_one_device_runs_in_this_process_as_a_group_of_one() -> None:
    seen: list[Any] = []

    def body(argument: str, group: ProcessGroup) -> str:
        seen.append((argument, group.rank, group.size, os.getpid()))
        return "done"

    assert launch.run(body, "job", Devices("cpu", (0,))) == "done"
    assert seen == [("job", 0, 1, os.getpid())]


def test_cores_are_shared_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle_runtime, "usable_cores", lambda: 8)
    monkeypatch.setattr(paddle_runtime, "_prepared", {"OMP_NUM_THREADS"})
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("MKL_NUM_THREADS", "5")  # the user's own
    paddle_runtime.share_cores(3)
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("2", "5")
