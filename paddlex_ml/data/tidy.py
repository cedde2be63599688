# SPDX-License-Identifier: Apache-2.0
"""Lists without the lines that a user does not want: `CheckDataset.drop`.

broken        the image cannot be decoded
empty         the image has no label
duplicates    the same image (by content) with the same labels is in an earlier line of the list, or
              in the other list: then the line of train.txt goes, so that scores on val.txt stay
              comparable

Copies with different labels stay: which labels are right, only the user knows; the check warns of
them. "missing", and an image that is named twice, are seen when the lists are read (`annotation`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from paddlex_ml.data import lost_images, targets
from paddlex_ml.data.annotation import (
    LISTS,
    ImageList,
    LineChange,
    Parsed,
    normalise_path,
)
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.inspect_images import Inspected
from paddlex_ml.wording import count

Images = Mapping[str, Inspected]
"""Normalised path -> properties."""


def leave_out(parsed: Parsed, images: Images, drop: Collection[str]) -> Parsed:
    """The data set without the lines of the kinds `drop`, which are added to its `changes`.

    A list that would lose all its lines is a fault.
    """
    reasons: dict[str, dict[int, str]] = {name: {} for name in LISTS}  # list -> row -> why
    lists = {"train": parsed.dataset.train, "val": parsed.dataset.val}
    for name, listed in lists.items():
        bare = targets.labels_per_image(listed.values) == 0
        for i, path in enumerate(listed.paths):
            if "broken" in drop and images[normalise_path(path)].problem:
                reasons[name][i] = "broken"
            elif "empty" in drop and bare[i]:
                reasons[name][i] = "empty"
    if "duplicates" in drop:
        _find_copies(lists, images, reasons)
    changes, faults = list(parsed.changes), list(parsed.faults)
    lines = dict(parsed.lines)
    for name, listed in lists.items():
        gone = reasons[name]
        keys = [normalise_path(path) for path in listed.paths]
        numbers = lines.get(name, {})
        changes += [
            LineChange(f"{name}.txt:{numbers[keys[i]]}", listed.paths[i], why)
            for i, why in sorted(gone.items())
        ]
        own = [c for c in parsed.changes if c.where.startswith(f"{name}.txt:")]
        lost = [change.kind for change in own if not change.found]
        if len(gone) == len(listed) and (gone or (lost and not numbers)):
            kinds = ", ".join(sorted({*gone.values(), *lost}))
            text = f"all {count(len(gone) + len(lost), 'image')} would be left out: {kinds}"
            fix = f"leave out fewer kinds: {lost_images.leave_out('...')}"
            faults.append(DatasetFault("nothing left", f"{name}.txt", text, fix))
        kept = [i for i in range(len(listed)) if i not in gone]
        lists[name] = listed.take(kept)
        left = {keys[i] for i in gone}
        lines[name] = {path: number for path, number in numbers.items() if path not in left}
    dataset = replace(parsed.dataset, train=lists["train"], val=lists["val"])
    return Parsed(dataset, lines, faults, changes)


def _find_copies(
    lists: Mapping[str, ImageList], images: Images, reasons: dict[str, dict[int, str]]
) -> None:
    """Enter the copies of images that stay; val.txt comes first, so that its lines stay."""
    first: dict[tuple[bytes, bytes], str] = {}  # content and labels -> path
    for name in reversed(LISTS):
        listed = lists[name]
        for i, path in enumerate(listed.paths):
            digest = images[normalise_path(path)].digest
            if i in reasons[name] or not digest:
                continue
            original = first.setdefault((digest, listed.line_key(i)), path)
            if original is not path:
                reasons[name][i] = f"duplicates (of {original})"
