# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.conditions import Conditions
from paddlex_ml.artifacts.git_state import GitState
from paddlex_ml.artifacts.processor import Processor
from paddlex_ml.artifacts.run_record import RunRecord, Start
from paddlex_ml.engines.reproduce import differences
from paddlex_ml.engines.reproduce.differences import FoundDifferences

CPU = Processor(name="A CPU", instruction_sets=["avx", "avx2"], cores=4, threads=2)
NOW = Conditions(
    processor=CPU, device="cpu", processes=1, environment={}, code="1" * 64, options="", weights="",
    lists={"label.txt": "a" * 64, "train.txt": "b" * 64}, git=GitState(commit="c" * 40,
    is_dirty=False),
)  # fmt: skip
VERSIONS = {"numpy": "2.0", "paddlepaddle": "3.3.1"}


def record(*started: Conditions | None, versions: dict[str, str] = VERSIONS) -> RunRecord:
    """Of a run with these starts."""
    starts = [
        Start(start="", command=[], host="", versions=versions, resumed_from=None, conditions=each)
        for each in started
    ]
    digests = {"label.txt": "a" * 64, "train.txt": "b" * 64, "config.yaml": "d" * 64}
    return RunRecord(
        id="1", digests=digests, start="", command=[], host="", versions=versions,
        resumed_from=None, replaces=None, earlier_starts=starts[:-1], conditions=started[-1],
    )  # fmt: skip


def find(*started: Conditions | None, **versions: str) -> FoundDifferences:
    return differences.find(record(*started), NOW, {**VERSIONS, **versions})


def test_equal_conditions_are_no_difference() -> None:
    found = find(NOW)
    assert found == FoundDifferences([], [])
    assert found.are_none


@pytest.mark.parametrize(
    ("changed", "name", "before", "now", "words"),
    [
        ({"processor": replace(CPU, name="B")}, "processor", "B", "A CPU", "runs other code"),
        (
            {"processor": replace(CPU, instruction_sets=["avx", "avx512f"])},
            "instruction sets", "avx512f", "avx2", "runs other code",
        ),
        (
            {"processor": replace(CPU, threads=8)},
            "threads", "8 threads", "2 threads", "OMP_NUM_THREADS=8 MKL_NUM_THREADS=8",
        ),
        ({"device": "gpu: H200"}, "device", "gpu: H200", "cpu", "another device"),
        ({"processes": 2}, "processes", "2", "1", "other inputs"),
        ({"environment": {"MKL_CBWR": "AVX"}}, "MKL_CBWR", "AVX", "not set", "other code"),
        ({"code": "2" * 64}, "package", "22222222", "11111111", "whatever its version says"),
        ({"weights": "e" * 64}, "weights", "eeeeeeee", "random", "other inputs"),
        ({"lists": {"train.txt": "f"}}, "train.txt", "f", "bbbbbbbb", "other inputs"),
    ],
)  # fmt: skip
def test_each_condition_that_decides_is_named_with_its_meaning(
    changed: dict[str, Any], name: str, before: str, now: str, words: str
) -> None:
    found = find(replace(NOW, **changed))
    [only] = found.changed
    assert (only.name, only.before, only.now, only.decides) == (name, before, now, True)
    assert words in only.meaning
    assert not found.are_none


def test_versions_are_compared() -> None:
    [only] = find(NOW, numpy="1.26").changed
    assert (only.name, only.before, only.now) == ("numpy", "2.0", "1.26")
    [new] = find(NOW, numba="0.60").changed
    assert (new.name, new.before, new.now) == ("numba", "not installed", "0.60")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (GitState(note="git is not installed"), "git is not installed"),
        (GitState(commit="d" * 40, is_dirty=False), "dddddddddddd"),
        (
            GitState(commit="c" * 40, is_dirty=True, difference="9" * 64),
            "cccccccccccc and changes 99999999",
        ),
        (GitState(commit="c" * 40, note="why"), "cccccccccccc, why"),
    ],
)
def test_git_is_told_and_decides_nothing(state: GitState, text: str) -> None:
    found = find(replace(NOW, git=state))
    [only] = found.changed
    assert (only.name, only.before, only.now) == ("git", text, "cccccccccccc")
    assert found.are_none


def test_a_gpu_is_never_bit_for_bit() -> None:
    gpu = replace(NOW, device="gpu: H200")
    found = differences.find(record(gpu), gpu, VERSIONS)
    assert [each.name for each in found.changed] == ["GPU"]
    assert "any order" in found.changed[0].meaning


def test_an_older_release_has_recorded_less() -> None:
    found = find(None, llvmlite="0.43")
    assert found.changed == []  # it has not recorded this package either
    assert "processor" in found.unknown
    assert not found.are_none
    assert find(None, numpy="1.26").changed[0].name == "numpy"


def test_without_a_record_everything_is_unknown() -> None:
    found = differences.find(None, NOW, VERSIONS)
    assert found.changed == []
    assert {"versions", "lists", "processor"} <= set(found.unknown)


def test_each_start_of_a_resumed_run_counts() -> None:
    other = replace(NOW, processor=replace(CPU, name="B"))
    assert [each.name for each in find(other, NOW).changed] == ["processor, start 1 of 2"]
    assert [each.name for each in find(NOW, other).changed] == ["processor, start 2 of 2"]
    assert [each.name for each in find(other, other).changed] == ["processor"]
    # A resumed start begins with a checkpoint, whatever weights the run began with.
    begun = replace(NOW, weights="e" * 64)
    assert differences.find(record(begun, NOW), begun, VERSIONS).are_none


def test_other_options_are_found_when_the_training_is_built() -> None:
    first, second = (record(replace(NOW, options=text * 64)) for text in "12")
    [only] = differences.find_other_options(first, second)
    assert (only.name, only.before, only.now, only.decides) == (
        "options", "11111111", "22222222", True,
    )  # fmt: skip
    for same in ((first, first), (None, first), (record(None), first)):
        assert differences.find_other_options(*same) == []
