# SPDX-License-Identifier: Apache-2.0
"""From what was compared to one sentence, and to the lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from paddlex_ml.artifacts.reproduction import ComparedEpoch, ComparedWeights, Reproduction
from paddlex_ml.wording import count, first_names

_MOST = 10
"""Epochs that are shown."""


def conclude(compared: Reproduction) -> Reproduction:
    """With the outcome and the sentence of what was compared."""
    assert compared.now is not None
    read = [each for each in compared.weights if not each.problem]
    epochs, first = compared.epochs, next((e for e in compared.epochs if not e.is_same), None)
    are_all = compared.epochs_before == compared.epochs_now == len(epochs)
    has_same_weights = not any(each.differing for each in read)
    numbers = f"every number of {count(len(epochs), 'epoch')}"
    if are_all and first is None and has_same_weights:
        what = " and the weights are the same, bit for bit" if read else (
            " is the same; the weights were not compared"
        )  # fmt: skip
        return replace(compared, outcome="reproduced", verdict=f"reproduced: {numbers}{what}")
    deciding = [each.name for each in compared.changed if each.decides]
    causes = [*dict.fromkeys([*deciding, *(f"{name} unknown" for name in compared.unknown)])]
    where = (
        f"from epoch {first.epoch} on"
        if first is not None
        else "after another number of epochs"
        if not are_all
        else "in the weights alone"
    )
    maps = f"best mAP {compared.before.map:.4f} then, {compared.now.map:.4f} now"
    under = f"under other conditions ({first_names(causes, 3)})" if causes else (
        "under the same conditions"
    )  # fmt: skip
    if compared.before.interval is not None and causes:
        low, high = compared.before.interval
        inside = low <= compared.now.map <= high
        maps += f", {'within' if inside else 'outside of'} the interval of the first"
    return replace(
        compared,
        outcome="different_conditions" if causes else "different",
        verdict=f"not reproduced, bit for bit: other numbers {where}, {under}; {maps}",
    )


def describe(compared: Reproduction, folder: str) -> list[str]:
    """Lines for a terminal; `folder` is that of the second run."""
    differing = [each for each in compared.epochs if not each.is_same]
    lines = [f"Reproduction of {compared.run} in {folder}"]
    lines += [
        f"  other:     {each.name}: {each.before} then, {each.now} now" for each in compared.changed
    ]
    if compared.unknown:
        lines.append(f"  unknown:   {', '.join(compared.unknown)}: not recorded by the first run")
    same = len(compared.epochs) - len(differing)
    total = f"{compared.epochs_before} then, {compared.epochs_now} now"
    lines.append(f"  epochs:    {total}; {same} with the same numbers")
    lines += [f"    {line}" for line in _tabulate(differing)]
    lines += [f"  weights:   {_describe_weights(each)}" for each in compared.weights]
    return [*lines, f"verdict: {compared.verdict}"]


def _tabulate(differing: Sequence[ComparedEpoch]) -> list[str]:
    lines = []
    for each in differing[:_MOST]:
        parts = [
            f"{name} {_show(value)} then, {_show(each.now[name])} now"
            for name, value in each.before.items()
            if value != each.now[name]
        ]
        lines.append(f"epoch {each.epoch}: {'; '.join(parts)}")
    if len(differing) > _MOST:
        lines.append(f"... and {len(differing) - _MOST:,} more: reproduction.json has all of them")
    return lines


def _show(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"


def _describe_weights(each: ComparedWeights) -> str:
    if each.problem:
        return f"{each.name}: not compared: {each.problem}"
    if not each.differing:
        return f"{each.name}: the same, bit for bit"
    apart = "" if each.largest is None else f", by {each.largest:.3g} at most"
    return f"{each.name}: {each.differing} of {count(each.entries, 'array')} differ{apart}"
