# SPDX-License-Identifier: Apache-2.0
"""Other names for classes: several that get one name become one class.

A class of several shows where one of them does; else it is unknown where one of them is; an image
is without it only where it is without all of them. Soft values: `soft_targets.map_classes`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paddlex_ml import systems
from paddlex_ml.data import annotation, journal, label_file, relations, soft_targets
from paddlex_ml.data.annotation import LISTS
from paddlex_ml.data.class_names import show_name
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.journal import Transaction
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import first_names


def parse(pairs: Sequence[str]) -> dict[str, str]:
    """Pairs "old=new" -> old name: new name. Raises PaddlexMLError for any other text.

    A sign = within a name is written `\\=`.
    """
    rename: dict[str, str] = {}
    for pair in pairs:
        names = [part.replace(r"\=", "=").strip() for part in re.split(r"(?<!\\)=", pair)]
        what = f"{pair!r} is not an old name, = and a new name"
        fix = "--rename automobile=car lorry=truck"
        if len(names) > 2:
            example = systems.quote(r"a\=b=c")
            fix = rf"write \= for each = within a name, as in --rename {example}"
        elif len(names) == 2 and all(names):
            old, new = names
            if rename.setdefault(old, new) == new:
                continue
            what = f"{old!r} would get two names, {rename[old]!r} and {new!r}"
        raise PaddlexMLError(what, where="--rename", fix=fix)
    return rename


def find_names(
    names: Sequence[str], rename: Mapping[str, str], where: str
) -> tuple[list[str], list[str], list[DatasetFault]]:
    """The new name of each class, a note for each that changes, and a fault for each old name that
    no class has."""
    faults = []
    for old in rename:
        if old not in names:
            near = difflib.get_close_matches(old, names, cutoff=0.5)
            shown = first_names(list(map(show_name, near or names)), 10)
            text, fix = f"no class has the name {show_name(old)}", f"write one of {shown}"
            faults.append(DatasetFault("unknown class", where, text, fix))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(rename.get(name, name), []).append(name)
    notes = [
        f"{' and '.join(map(show_name, olds))} "
        f"{'are one class' if len(olds) > 1 else 'becomes'}: {show_name(new)}"
        for new, olds in groups.items()
        if olds != [new]
    ]
    return [rename.get(name, name) for name in names], notes, faults


def rename_classes(root: Path, rename: Mapping[str, str]) -> tuple[Transaction, list[str]]:
    """Rename classes in label.txt, and merge their values in the lists, as one transaction.

    A class keeps the place of the first of those that it is made of. Returns the change, and a note
    for each class. Raises PaddlexMLError with every fault, also where relations.yaml names a class
    that is no more; then nothing has changed.
    """
    with journal.writing(root):
        lists = [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS
        dataset = annotation.read(root, lists, soft_labels=True)
        renamed, notes, faults = find_names(dataset.label_names, rename, annotation.LABEL_FILE)
        names = list(dict.fromkeys(renamed))
        known, wrong = relations.parse(root / relations.FILE, names)
        if faults := faults or wrong:
            raise combine(faults, root)
        related = () if known is None else (*known.stated, *known.exclusive)
        for name in dict.fromkeys(names[i] for ids in related for i in ids):
            if rename.get(name, name) != name:
                text = f"{relations.FILE} names {show_name(name)}, which is another class now"
                notes.append(f"{text}: see that it says what you mean")
        ids = np.array([names.index(name) for name in renamed], np.int64)
        texts = {annotation.LABEL_FILE: label_file.labels_text(names)}
        for name in lists if len(names) < len(renamed) else ():
            images = getattr(dataset, name)
            values, soft = soft_targets.map_classes(images.soft, images.values, ids, len(names))
            texts[f"{name}.txt"] = replace(images, values=values, soft=soft).text()
        return journal.apply(root, "classes renamed", texts), notes
