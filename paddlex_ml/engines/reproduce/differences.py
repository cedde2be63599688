# SPDX-License-Identifier: Apache-2.0
"""What is not as it was when a run was trained, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from paddlex_ml.artifacts.conditions import Conditions
from paddlex_ml.artifacts.git_state import GitState
from paddlex_ml.artifacts.reproduction import ChangedCondition
from paddlex_ml.artifacts.run_record import RunRecord
from paddlex_ml.wording import count

_RELEASE = "another release may round otherwise: the last digits may differ"
_KERNELS = "another kind of processor runs other code: the last digits may differ"
_GPU = "sums on a GPU are added in any order: the last digits differ from run to run"
INPUT = "other inputs give other numbers"
_LEAST, _MOST = 8, 60  # letters of a digest, and of a long text, that are shown


class FoundDifferences(NamedTuple):
    """What is not as it was, and what nobody can tell."""

    changed: list[ChangedCondition]
    unknown: list[str]

    @property
    def are_none(self) -> bool:
        """Whether all is as it was that decides about the numbers, and known."""
        return not self.unknown and not any(each.decides for each in self.changed)


def find(
    record: RunRecord | None, now: Conditions, versions: Mapping[str, str]
) -> FoundDifferences:
    """Compare the conditions of a run with those of today. None: its run.json cannot be read."""
    if record is None:
        names = ["versions", "processor", "device", "lists", "weights", "package"]
        return FoundDifferences([], names)
    changed = list(_compare_versions(record, versions))
    first = record.starts[0].conditions
    lists = record.digests if first is None else first.lists
    for name, digest in now.lists.items():
        if lists.get(name, digest) != digest:
            changed.append(_change(name, lists[name][:_LEAST], digest[:_LEAST], INPUT))
    if first is not None and first.weights != now.weights:  # a resume begins with a checkpoint
        texts = first.weights[:_LEAST] or "random", now.weights[:_LEAST] or "random"
        changed.append(_change("weights", *texts, INPUT))
    known = [each.conditions for each in record.starts if each.conditions is not None]
    found = [list(_compare(each, now)) for each in known]
    for number, of_start in enumerate(found, start=1):
        for each in of_start:
            same = sum((each.name, each.before) in _names(other) for other in found)
            if same < len(found):
                label = f"{each.name}, start {number} of {len(found)}"
                changed.append(replace(each, name=label))
            elif number == 1:
                changed.append(each)
    is_older = len(known) < len(record.starts)
    names = ["processor", "device", "processes", "weights", "package", "git"]
    return FoundDifferences(changed, names if is_older else [])


def find_other_options(before: RunRecord | None, now: RunRecord | None) -> list[ChangedCondition]:
    """Whether options that are no path differ: known only when the training is built."""
    first = before.conditions if before is not None else None
    second = now.conditions if now is not None else None
    if first is None or second is None or first.options == second.options:
        return []
    meaning = "a default of another release, or another teacher: other inputs"
    return [_change("options", first.options[:_LEAST], second.options[:_LEAST], meaning)]


def _names(found: Sequence[ChangedCondition]) -> set[tuple[str, str]]:
    return {(each.name, each.before) for each in found}


def _change(
    name: str, before: str, now: str, meaning: str, decides: bool = True
) -> ChangedCondition:
    return ChangedCondition(name=name, before=before, now=now, decides=decides, meaning=meaning)


def _compare_versions(record: RunRecord, now: Mapping[str, str]) -> Iterator[ChangedCondition]:
    """Of all starts: the versions of one that is not the last may be other ones too."""
    recorded = {name for start in record.starts for name in start.versions}
    if all(start.conditions is not None for start in record.starts):
        recorded |= now.keys()  # an older release names fewer packages
    for name in sorted(recorded):
        before = dict.fromkeys(start.versions.get(name, "") for start in record.starts)
        if set(before) != {now.get(name, "")}:
            texts = ", then ".join(text or "not installed" for text in before)
            yield _change(name, texts, now.get(name, "not installed"), _RELEASE)


def _compare(before: Conditions, now: Conditions) -> Iterator[ChangedCondition]:
    """The conditions of one start, but for its lists and weights."""
    first, second = before.processor, now.processor
    if first.name != second.name:
        yield _change("processor", first.name, second.name, _KERNELS)
    if set(first.instruction_sets) != set(second.instruction_sets):
        gone = [name for name in first.instruction_sets if name not in second.instruction_sets]
        new = [name for name in second.instruction_sets if name not in first.instruction_sets]
        yield _change("instruction sets", _shorten(gone), _shorten(new), _KERNELS)
    if first.threads != second.threads:
        wanted = f"OMP_NUM_THREADS={first.threads} MKL_NUM_THREADS={first.threads}"
        meaning = f"sums in other parts may be rounded otherwise: write {wanted} before the command"
        threads = count(first.threads, "thread"), count(second.threads, "thread")
        yield _change("threads", *threads, meaning)
    if before.device != now.device:
        yield _change("device", before.device, now.device, "another device rounds otherwise")
    elif now.device != "cpu":
        yield _change("GPU", before.device, now.device, _GPU)
    if before.processes != now.processes:
        yield _change("processes", str(before.processes), str(now.processes), INPUT)
    for name in dict.fromkeys([*before.environment, *now.environment]):
        texts = before.environment.get(name, "not set"), now.environment.get(name, "not set")
        if texts[0] != texts[1]:
            yield _change(name, *texts, "libraries may choose other code: the last digits differ")
    if before.code != now.code:
        meaning = "the modules of this package are other ones, whatever its version says"
        yield _change("package", before.code[:_LEAST], now.code[:_LEAST], meaning)
    git = _describe_git(before.git), _describe_git(now.git)
    if git[0] != git[1]:
        meaning = "the folder of the command; it decides about no number of a training"
        yield _change("git", *git, meaning, decides=False)


def _shorten(names: list[str]) -> str:
    text = " ".join(names) or "no other"
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _describe_git(state: GitState) -> str:
    if state.commit is None:
        return state.note or "not known"
    text = state.commit[:12]
    if state.is_dirty is None:
        return f"{text}, {state.note}"
    return f"{text} and changes {(state.difference or '')[:_LEAST]}" if state.is_dirty else text
