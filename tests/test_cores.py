# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys

import pytest

from paddlex_ml import cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("50000 100000\n", 1), ("400000 50000\n", 8)],
)
def test_the_quota_of_cgroup_2_is_rounded_up_to_whole_cores(tmp_path, quota, expected):
    (tmp_path / "cpu.max").write_text(quota)
    assert cores._quota(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("100000", 1)])
def test_the_quota_of_cgroup_1_is_found_as_well(tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores._quota(tmp_path) == expected


def test_without_a_quota_there_is_no_limit(tmp_path):
    assert cores._quota(tmp_path) == sys.maxsize
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores._quota(tmp_path) == sys.maxsize
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores._quota(tmp_path) == sys.maxsize


@pytest.mark.parametrize(("allowed", "quota", "expected"), [(8, 3, 3), (2, 16, 2), (1, 0, 1)])
def test_affinity_and_quota_both_limit_the_cores(monkeypatch, allowed, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setattr(cores, "_quota", lambda _: quota)
    assert cores.usable_cores() == expected


def test_a_system_without_affinity_counts_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(cores, "_quota", lambda _: sys.maxsize)
    assert cores.usable_cores() == 5
