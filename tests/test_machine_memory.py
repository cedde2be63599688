# SPDX-License-Identifier: Apache-2.0
"""Memory of the machine and of its containers, from copies of the kernel's files."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from paddlex_ml import machine_memory


def test_the_memory_is_that_of_the_smallest_group(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/user/job\n")
    (tmp_path / "user" / "job").mkdir(parents=True)
    (tmp_path / "user" / "job" / "memory.max").write_text("max\n")
    (tmp_path / "user" / "memory.max").write_text("3000000\n")
    assert machine_memory.total(tmp_path, tmp_path / "own") == 3_000_000
    (tmp_path / "own").write_text("4:memory:/a\n3:cpu:/b\n")
    (tmp_path / "memory" / "a").mkdir(parents=True)
    (tmp_path / "memory" / "a" / "memory.limit_in_bytes").write_text("2000000\n")
    machine_memory.total.cache_clear()
    assert machine_memory.total(tmp_path, tmp_path / "own") == 2_000_000
    assert machine_memory.total(tmp_path, tmp_path / "absent") > 10**8


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"memory.max": 1000, "memory.current": 700, "inactive_file": 200}, 500),
        (
            "0::/job\n",
            {"job/memory.max": 900, "job/memory.current": 700, "job/inactive_file": 0},
            200,
        ),
        ("0::/\n", {"memory.max": "max", "memory.current": 700, "inactive_file": 0}, 10**6),
        (
            "4:cpu,memory:/a\n",
            {
                "memory/a/memory.limit_in_bytes": 800,
                "memory/a/memory.usage_in_bytes": 900,
                "memory/a/total_inactive_file": 300,
            },
            200,
        ),
        ("4:cpu:/\n", {}, 10**6),
    ],
)
def test_memory_is_what_the_container_leaves(tmp_path, monkeypatch, lines, files, expected):
    Free = namedtuple("Free", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Free(10**6))
    for name, value in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith("inactive_file"):
            (path.parent / "memory.stat").write_text(f"anon 5\n{path.name} {value}\n")
        else:
            path.write_text(f"{value}\n")
    own = tmp_path / "own"
    own.write_text(lines)
    assert machine_memory.available(tmp_path, own) == expected


@pytest.mark.parametrize(
    ("lines", "file", "text", "expected"),
    [
        ("0::/job\n", "job/memory.events", "low 0\nmax 9\noom 3\noom_kill 2\n", 2),
        ("0::/job/step\n", "memory.events", "oom_kill 4\n", 4),
        ("4:cpu,memory:/a\n", "memory/a/memory.oom_control", "under_oom 0\noom_kill 1\n", 1),
        ("4:cpu:/a\n", "memory/a/memory.oom_control", "oom_kill 1\n", 0),
        ("0::/job\n", "job/memory.events", "oom_kill many\n", 0),
        ("0::/job\n", "else", "", 0),
    ],
)
def test_the_count_of_the_kernel_is_read(
    tmp_path: Path, lines: str, file: str, text: str, expected: int
) -> None:
    path = tmp_path / "cgroups" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (tmp_path / "own").write_text(lines)
    assert machine_memory.count_ends(tmp_path / "cgroups", tmp_path / "own") == expected


def test_without_cgroups_the_count_is_zero(tmp_path: Path) -> None:
    assert machine_memory.count_ends(tmp_path, tmp_path / "nothing") == 0
