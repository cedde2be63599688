# SPDX-License-Identifier: Apache-2.0
"""Several data sets of ours as one: the union of their classes, and each image once.

    a/label.txt, train.txt, val.txt + b/... -> merged/label.txt, train.txt, val.txt and the images

- The classes are those of the first set in its order, then what the others add. A class that a set
  does not have in its label.txt is unknown for its images.
- Files with the same content are one image, whose labels are put together: what one set knows
  counts before what another leaves open. Where one says present and another absent, that is a
  conflict: refused with a table of all of them, or decided as the user says.
- An image that is for training in one set and for validation in another is for training: no score
  may come from an image that a model has been trained on.
- Images keep their paths. One whose path another image has already gets the name of its set's
  folder in front. They are hard links, or copies where the disk has none; the sets are never
  changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlex_ml import machine_memory, systems
from paddlex_ml.data import annotation, relations, soft_targets, targets
from paddlex_ml.data.annotation import LISTS, ImageList
from paddlex_ml.data.class_names import find_spellings, show_name
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.soft_targets import SoftCells, Weights
from paddlex_ml.data.targets import Targets
from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.formats import prepared
from paddlex_ml.formats.collector import SourceDataset
from paddlex_ml.formats.prepared import Prepared, Watch
from paddlex_ml.formats.same_files import find_copies
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.storage import csv_text, files, folders
from paddlex_ml.wording import count, first_names

WAYS = ("first", "unknown", "present")
"""How a conflict may be decided: as the first set says that knows, as unknown, or as present."""
CONFLICTS = "conflicts.csv"
_BYTES = 40  # of memory for each label that a sparse list has to name, while it is made


@dataclass
class _Sets:
    """The lines of all lists, one after the other: N lines, C classes."""

    label_names: list[str]
    roots: list[Path] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """Of each image, relative to its root."""
    lists: list[str] = field(default_factory=list)
    values: list[Targets] = field(default_factory=list)
    soft: list[SoftCells | None] = field(default_factory=list)
    weights: list[Weights | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(
    sets: Sequence[Path], output: Path, watch: Watch, conflicts: str | None = None
) -> Prepared:
    """Join data sets in `output`, a new or empty folder. `conflicts` is one of WAYS, or None.

    Raises one PaddlexMLError for faults in the lists of a set, and for conflicts that nobody has
    decided: the table of them is then `<output>_conflicts.csv`. Nothing is left in `output` then.
    """
    _refuse_folders(sets, output)
    joined = _read(sets)
    lines = [str(root / path) for root, path in zip(joined.roots, joined.paths, strict=True)]
    with watch("compared images") as progress:
        steps = iter(range(1, len(lines) + 1))
        copies, unreadable = find_copies(
            Path(), list(dict.fromkeys(lines)), lambda: progress(next(steps), len(lines))
        )
    if unreadable:
        kind, fix = "image not readable", "restore the file, or take it out of the lists"
        faults = [DatasetFault(kind, path, why, fix) for path, why in unreadable.items()]
        raise combine(faults, output)
    images: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        images.setdefault(copies.get(line, line), []).append(number)
    values, table = _put_together(joined, list(images.values()), conflicts)
    if table and conflicts is None:
        raise _refuse(table, output)
    first = [numbers[0] for numbers in images.values()]
    new_paths = _choose_paths(joined, first)
    soft, weights = _choose_soft(joined, list(images.values()), values)
    lists = _make_lists(joined, images, ImageList(Path(), new_paths, values, soft, weights))
    with folders.building(output) as fresh:
        with watch("linked images") as progress:
            for done, (source, path) in enumerate(zip(images, new_paths, strict=True), 1):
                prepared.link(Path(source), fresh / path)
                progress(done, len(images))
        if table:
            files.write_bytes(fresh / CONFLICTS, csv_text.encode(_write_table(table)))
            joined.notes.append(
                f"{count(len(table), 'label differs', 'labels differ')} between the sets "
                f"({CONFLICTS} has them all): "
                f"decided by --conflicts {conflicts}"
            )
        source_set = SourceDataset(joined.label_names, lists, [], joined.notes)
        prepared.write(fresh, source_set)
    return prepared.describe(output, source_set)


def _read(sets: Sequence[Path]) -> _Sets:
    """Read all lists, with the classes of all sets. Raises one PaddlexMLError for each set."""
    read = {}
    for root in sets:
        names = [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS
        dataset = annotation.read(root, names, soft_labels=True)
        read[root] = dataset.label_names, {name: getattr(dataset, name) for name in names}
    joined = _Sets(list(dict.fromkeys(name for names, _ in read.values() for name in names)))
    number = {name: i for i, name in enumerate(joined.label_names)}
    for root, (names, lists) in read.items():
        ids = np.array([number[name] for name in names], np.int64)
        lacking = np.array(sorted({*range(len(number))} - {*ids.tolist()}), np.int64)
        for name, images in lists.items():
            if not isinstance(images.values, np.ndarray):
                # A line lists what is unknown or what is absent: the shorter of the two.
                fewest = min(len(lacking), len(ids))
                _refuse_large(len(images) * fewest, root / f"{name}.txt")
            mapped, soft = soft_targets.map_classes(images.soft, images.values, ids, len(number))
            joined.values.append(mapped)
            joined.soft.append(soft)
            joined.weights.append(images.weights)
            joined.paths += [os.path.normpath(path) for path in images.paths]
            joined.roots += [root] * len(images)
            joined.lists += [name] * len(images)
        if len(lacking):
            shown = first_names([joined.label_names[i] for i in lacking], 5)
            text = f"{count(len(lacking), 'class is', 'classes are')} not in label.txt of {root}"
            joined.notes.append(f"{text}, and unknown for its images: {shown}")
        if (root / relations.FILE).exists():
            text = f"{root / relations.FILE} is not taken along: write one for the merged set"
            joined.notes.append(text)
    _tell_spellings(joined, {root: names for root, (names, _) in read.items()})
    return joined


def _tell_spellings(joined: _Sets, classes: Mapping[Path, Sequence[str]]) -> None:
    """Note classes of different sets whose names people would read as the same."""
    for group in find_spellings(joined.label_names):
        first, *others = group
        for other in others:
            root = next(root for root, names in classes.items() if other in names)
            pair = "=".join(name.replace("=", r"\=") for name in (other, first))
            joined.notes.append(
                f"{show_name(first)} and {show_name(other)} stay two classes; if they are one: "
                f"dataset_tools/rename_classes.py {systems.quote(str(root))} --rename "
                f"{systems.quote(pair)}, then merge again"
            )


def _refuse_folders(sets: Sequence[Path], output: Path) -> None:
    folders.refuse_full(output)
    if len({os.path.realpath(path) for path in sets}) < max(2, len(sets)):
        text = "two different data sets are needed at least, each named once"
        raise PaddlexMLError(text, where=first_names(list(map(str, sets))), fix="merge.py a b -o c")
    above = Path(os.path.realpath(output)).parents
    if inside := [root for root in sets if Path(os.path.realpath(root)) in above]:
        raise PaddlexMLError(
            "the merged set would lie inside of one that it is made of, which is never changed",
            where=str(output),
            fix=f"choose a folder outside of {inside[0]}, such as --output merged",
        )


def _refuse_large(labels: int, path: Path) -> None:
    """Refuse labels of a sparse list that would take more than half of the memory."""
    room = machine_memory.available() // 2
    if labels * _BYTES > room:
        raise PaddlexMLError(
            f"{count(labels, 'label')} of this sparse list would be listed as unknown, or "
            "as absent, in "
            f"the merged set: that takes about {labels * _BYTES / 1e9:.0f} GB of memory, of which "
            f"{room / 1e9:.0f} GB may be used",
            where=str(path),
            fix="merge fewer images at a time, or sets that have more classes in common",
        )


def _put_together(
    joined: _Sets, images: Sequence[Sequence[int]], conflicts: str | None
) -> tuple[Targets, list[tuple[str, str, str, str]]]:
    """The values of the first line of each image, with what its other lines know; and a row for
    each conflict: image, class, who says present, who says absent."""
    every = targets.concatenate(joined.values)
    table: list[tuple[str, str, str, str]] = []
    cells: list[np.ndarray] = [np.zeros((3, 0), np.int64)]
    several = [(i, numbers) for i, numbers in enumerate(images) if len(numbers) > 1]
    for image, numbers in several:
        rows = np.stack([targets.row(every, number) for number in numbers])
        present, absent = (rows == 1).any(axis=0), (rows == 0).any(axis=0)
        row = np.where(present, 1, np.where(absent, 0, UNKNOWN))
        for class_id in np.flatnonzero(present & absent).tolist():
            said = rows[:, class_id]
            files_of = {
                value: " | ".join(str(joined.roots[n] / joined.paths[n]) for n in chosen)
                for value in (1, 0)
                for chosen in [np.array(numbers)[said == value]]
            }
            name = joined.label_names[class_id]
            table.append((joined.paths[numbers[0]], name, files_of[1], files_of[0]))
            decided = {"first": said[said >= 0][0], "unknown": UNKNOWN}
            row[class_id] = decided.get(conflicts or "", 1)
        changed = np.flatnonzero(row != rows[0])
        cells.append(np.stack([np.full(len(changed), image), changed, row[changed]]))
    numbers_of, ids, values = np.concatenate(cells, axis=1)
    firsts = targets.take(every, [numbers[0] for numbers in images])
    if several:
        told = count(len(several), "image is", "images are")
        joined.notes.append(f"{told} there more than once: the labels are put together")
    return targets.put(firsts, numbers_of, ids, values.astype(np.int8)), table


def _choose_soft(
    joined: _Sets, images: Sequence[Sequence[int]], values: Targets
) -> tuple[SoftCells | None, Weights | None]:
    """The soft values and weights of the merged images, whose labels `values` are decided.

    A soft value is that of the first line whose label was decided for; a weight that of the first
    line that is for training: those of val.txt have no effect.
    """
    sizes = [len(each) for each in joined.values]
    weights = soft_targets.join_weights(joined.weights, sizes)
    if weights is not None:
        lines = [[n for n in numbers if joined.lists[n] == "train"] for numbers in images]
        if differ := sum(len({weights[n] for n in each}) > 1 for each in lines):
            told = count(differ, "image has", "images have")
            text = "different weights in the sets: that of the first set counts"
            joined.notes.append(f"{told} {text}")
        firsts = [each or numbers for each, numbers in zip(lines, images, strict=True)]
        weights = weights[[each[0] for each in firsts]]
    every = soft_targets.concatenate(joined.soft, sizes)
    if every is None:
        return None, weights
    table, found = targets.concatenate(joined.values), []
    for image, numbers in enumerate(images):
        if all(every.starts[n] == every.starts[n + 1] for n in numbers):
            continue
        row, rows = targets.row(values, image), [targets.row(table, n) for n in numbers]
        shares = np.stack([every.fill(r, n) for r, n in zip(rows, numbers, strict=True)])
        decided = (np.stack(rows) == row).argmax(axis=0)
        share = shares[decided, np.arange(len(row))]
        ids = np.flatnonzero((share > 0) & (share < 1) & (row >= 0))
        found.append((np.full(len(ids), image), ids, share[ids]))
    parts = [np.concatenate(each) for each in zip(*found, strict=True)]
    soft = soft_targets.from_cells(parts[0], parts[1], parts[2], len(images))
    return soft_targets.keep_agreeing(soft, values), weights


def _make_lists(
    joined: _Sets, images: dict[str, list[int]], merged: ImageList
) -> dict[str, ImageList]:
    """The merged lists; an image that any set trains on is for training."""
    sides: dict[str, list[int]] = {name: [] for name in LISTS if name in joined.lists}
    leaks = []
    for i, numbers in enumerate(images.values()):
        found = {joined.lists[number] for number in numbers}
        sides["train" if "train" in found else "val"].append(i)
        leaks += [merged.paths[i]] * (len(found) > 1)
    if leaks:
        text = "for training in one list and for validation in another: now in train.txt"
        told = count(len(leaks), "image is", "images are")
        joined.notes.append(f"{told} {text}: {first_names(leaks, 5)}")
    if "val" in sides and not sides["val"]:
        del sides["val"]
        joined.notes.append("no image is left for val.txt: divide with dataset_tools/split.py")
    return {name: merged.take(chosen) for name, chosen in sides.items()}


def _choose_paths(joined: _Sets, numbers: Sequence[int]) -> list[str]:
    """A path of its own for each image, on disks too that do not tell capitals apart."""
    taken: set[str] = set()
    chosen, moved = [], []
    for number in numbers:
        path, folder = Path(joined.paths[number]), os.path.realpath(joined.roots[number])
        for candidate in _propose(path, Path(folder).name or "set"):
            if candidate.as_posix().casefold() not in taken:
                break
        taken.add(candidate.as_posix().casefold())
        chosen.append(candidate.as_posix())
        moved += [chosen[-1]] * (candidate != path)
    if moved:
        text = "the path of another one: now in a folder with the name of the set"
        told = count(len(moved), "image has", "images have")
        joined.notes.append(f"{told} {text}: {first_names(moved, 5)}")
    return chosen


def _propose(path: Path, folder: str) -> Iterator[Path]:
    yield path
    yield Path(folder, path)
    number = 1
    while True:
        number += 1
        yield Path(f"{folder}_{number}", path)


def _write_table(table: Sequence[Sequence[str]]) -> str:
    return csv_text.write([("image", "class", "present in", "absent in"), *table])


def _refuse(table: Sequence[Sequence[str]], output: Path) -> PaddlexMLError:
    """Write the table of conflicts beside the output; the error that names it."""
    path = output.with_name(f"{output.name}_{CONFLICTS}")
    files.write_bytes(path, csv_text.encode(_write_table(table)))
    shown = first_names([f"{row[0]} ({row[1]})" for row in table], 5)
    return PaddlexMLError(
        f"{count(len(table), 'label is', 'labels are')} present in one set and absent in "
        f"another: {shown}; "
        f"{path} has them all",
        where=str(output),
        fix=alternatives(
            "correct the lists",
            "believe the first set that knows: --conflicts first",
            "make such labels unknown: --conflicts unknown",
            "make them present: --conflicts present",
        ),
    )
