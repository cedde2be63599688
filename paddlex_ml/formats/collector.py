# SPDX-License-Identifier: Apache-2.0
"""What the readers of foreign formats share: options, the result, and the search for images.

annotations -> Collector.add(list, image, labels) -> Collector.finish(label_names) -> SourceDataset
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from paddlex_ml import program
from paddlex_ml.data import renaming, targets
from paddlex_ml.data.annotation import LISTS, ImageList
from paddlex_ml.data.class_names import fold_name, show_name
from paddlex_ml.data.faults import SHOWN, DatasetFault, combine
from paddlex_ml.data.findings import find_unlabelled_list
from paddlex_ml.data.image_finder import LEAVE_OUT, Guess, ImageFinder
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import read_lines
from paddlex_ml.formats.account import Account, GuessedImage
from paddlex_ml.progress import ReportProgress, ignore_progress
from paddlex_ml.wording import count, first_names

CLASS_FILE = "classes.txt"
"""One class name a line, in the order of the ids: for formats that do not order their classes."""

_RENAME = "CheckDataset.convert.rename"
_NOT_UTF8 = "\ud800-\udfff"  # how Python spells the bytes of a file name that is not UTF-8
_SHORTENED = re.compile(r"[0-9]([.,][0-9]+)?E\+[0-9]+", re.I)  # 2.02611E+11, 2E+11
_UNFIT = re.compile(rf"[\t\r\n{_NOT_UTF8}]")  # for a line of a list


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may choose for a conversion."""

    skip_missing: bool = False
    """Leave images out that are named but not there, instead of refusing them."""
    separator: str | None = None
    """Between the names of one cell of a table; None: detected from the table."""
    image_column: str | None = None
    """Name of the column of a table that has the images; None: detected."""
    label_columns: Sequence[str] | None = None
    """Names of the columns of a table that have labels; None: detected."""
    label_value: str | None = None
    """Value of a column of one class that means "shows it"; None: 1, true, yes, ..."""
    image_from: Literal["stem", "field"] | None = None
    """Whether an annotation file of one image belongs to the image of its own name (stem) or to the
    one that it names (field); None: both must agree."""
    merge_names: bool | None = None
    """Whether spellings of one name are one class; None: they are a fault."""
    uncertain: Literal["unknown", "positive", "negative"] | None = None
    """What a label becomes about which the source is not certain; None: unknown."""
    rename: Mapping[str, str] | None = None
    """Class of the source -> its name here; classes of one name become one."""
    only: str | None = None
    """The only file of annotations that counts, relative to the data set; None: all of them."""
    progress: ReportProgress = ignore_progress


@dataclass(frozen=True)
class SourceDataset:
    """The content of a source, ready to become label.txt, train.txt and val.txt."""

    label_names: list[str]
    lists: dict[str, ImageList]
    """Keys "train" and "val"; "train" alone where the source does not divide its images."""
    retire: list[Path]
    """Annotation files that become .bak when the lists are written."""
    notes: list[str]
    """What was left out, merged or renumbered: a line each, for the user."""
    account: Account = field(default_factory=Account)


@dataclass(frozen=True)
class ImageLabels:
    """What a source says about one image, by the keys of the classes."""

    shown: set[Hashable]
    unknown: set[Hashable]
    """Classes that nobody has looked for; all others are absent."""
    absent: set[Hashable] | None = None
    """Where given, the only classes that are absent: the others are unknown."""

    def merge(self, other: ImageLabels) -> ImageLabels:
        """What both say together: a class is unknown only where it is unknown to both."""
        shown = self.shown | other.shown
        if self.absent is not None and other.absent is not None:
            return ImageLabels(shown, set(), self.absent | other.absent)
        unknown = self.unknown & other.unknown
        if self.absent is not None or other.absent is not None:
            unknown = (self.unknown | other.unknown) - (self.absent or other.absent or set())
        return ImageLabels(shown, unknown)

    def find_disputed(self, other: ImageLabels) -> set[Hashable]:
        """The classes that one of the two shows, and the other says by name is absent."""
        return self.shown & (other.absent or set()) | other.shown & (self.absent or set())


@dataclass
class Collector:
    """Gathers images and labels of a source, and everything that is wrong with it."""

    root: Path
    options: Options
    faults: list[DatasetFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layout: str = f"put the annotations where {program.page('data.md')} shows them for this format"
    """How the files of the format must lie: the repair where they are not found."""

    def __post_init__(self) -> None:
        self.account = Account()
        self._rows: dict[str, dict[str, ImageLabels]] = {}
        self._spelt: dict[str, dict[str, str]] = {}  # normalised path -> path as first named
        self._guessed: dict[str, GuessedImage] = {}  # by the path that was taken for the image
        self._taken: dict[tuple[str, ...], str] = {}  # name and folders -> path by a guess
        self._disputed: set[str] = set()  # paths that were taken for two images, neither its own
        self._again: set[str] = set()
        self._disputed_labels: dict[tuple[str, Hashable], None] = {}  # path and label
        self._missing: list[str] = []
        self._slips_looked_for = 0

    @cached_property
    def inventory(self) -> Inventory:
        """Everything that lies in the data set folder."""
        return Inventory(self.root, self.options.only)

    @cached_property
    def finder(self) -> ImageFinder:
        """Finds the images of the data set."""
        return ImageFinder(self.root, self.inventory)

    def read_lines(self, file: str, records: bool = True) -> list[str | None]:
        """Lines of a text file of the data set; its faults and its encoding are kept.

        The file counts as used, and its lines that are not empty as records unless `records` is
        False. A line that is a fault is None.
        """
        text = read_lines(self.root / file, file)
        self.faults += text.faults
        filled = sum(bool(line and line.strip()) for line in text.lines) if records else 0
        self.account.use(file, filled)
        self.account.note_encoding(file, text.encoding)
        return text.lines

    def open_list(self, name: str) -> None:
        """Make the list `name` ("train" or "val") exist, even if it gets no image."""
        assert name in LISTS
        self._rows.setdefault(name, {})
        self._spelt.setdefault(name, {})

    def add(
        self,
        name: str,
        image: str,
        folders: Sequence[str],
        labels: Iterable[Hashable],
        where: str,
        *,
        unknown: Iterable[Hashable] = (),
        absent: Iterable[Hashable] | None = None,
    ) -> str | None:
        """Add an image to list `name`; an image that comes again keeps all its labels.

        `labels` are the keys given to `finish`; `where` is the position that names the image:
        "instance_train.json images[7]", "train.csv:8". `unknown` are classes that nobody has looked
        for; where `absent` is given, all are unknown but those and the labels. Returns the path of
        the image, or None where it cannot be used, which is a fault or counted.
        """
        self.open_list(name)
        path = self._resolve(image, folders, where)
        if path is None:
            return None
        if _UNFIT.search(path):
            text = f"the name {path!r} has a tab, a line end, or bytes that are not UTF-8"
            self.add_fault("image name", where, text, "rename the image file")
            return None
        path = self._spelt[name].setdefault(os.path.normcase(path), path)  # normalised already
        new = ImageLabels(set(labels), set(unknown), None if absent is None else set(absent))
        row = self._rows[name].get(path)
        if row is not None:
            self._again.add(path)
            self._disputed_labels |= {(path, label): None for label in row.find_disputed(new)}
            new = row.merge(new)
        self._rows[name][path] = new
        return path

    def _resolve(self, image: str, folders: Sequence[str], where: str) -> str | None:
        """Path of an image, as written or by a guess, which `finish` enters in the account."""
        key = image, *folders
        earlier = self._guessed.get(self._taken.get(key, ""))
        if earlier is not None and earlier.name == image:  # a table may name it in many rows
            return earlier.path
        path = self.finder.find(image, folders)
        if isinstance(path, str):
            if self._guessed and (guessed := self._guessed.get(path)):
                self._refuse_guess(guessed, image)
            return path
        guess = None
        if path.kind in ("image missing", "path outside the data set"):
            guess = self.finder.guess(image, folders)
        if isinstance(guess, Guess):
            self._taken[key] = guess.path
            return self._keep_guess(GuessedImage(image, guess.path, guess.how, where))
        problem = guess or path
        if problem.kind == "image missing" and self.options.skip_missing:
            self._missing.append(image)
        else:
            text, fix = problem.text, problem.fix
            if _SHORTENED.fullmatch(image):
                text += ": a spreadsheet has cut off digits of a long number"
                fix = f"give the column the format Text, and write the names again; or {fix}"
            if problem.kind == "image missing" and self._slips_looked_for < SHOWN:
                self._slips_looked_for += 1
                alike = self.finder.find_alike(image)
                text += f"; is {alike} meant?" if alike else ""
            self.add_fault(problem.kind, where, text, fix)
        return None

    def _keep_guess(self, guess: GuessedImage) -> str | None:
        """Keep a guess. A file to which two names lead cannot be what both mean: None."""
        earlier = self._guessed.get(guess.path)
        if earlier is not None and earlier.name == guess.name:
            return guess.path
        if earlier is not None:
            self._refuse_guess(guess, earlier.name)
            if self.options.skip_missing:
                self._refuse_guess(earlier, guess.name)
                self._disputed.add(guess.path)
            return None
        is_named = any(guess.path in rows for rows in self._rows.values())
        if is_named or guess.path in self._disputed:
            self._refuse_guess(guess, guess.path if is_named else "other names")
            return None
        self._guessed[guess.path] = guess
        return guess.path

    def _refuse_guess(self, guess: GuessedImage, other: str) -> None:
        """Leave out an image whose file is meant by `other`, with what was added by the guess."""
        if not self.options.skip_missing:
            text = f"{guess.name} is not there; {guess.path} belongs to {other} already"
            self.add_fault("image missing", guess.where, text, LEAVE_OUT)
            return
        self._missing.append(guess.name)
        if self._guessed.get(guess.path) == guess:
            del self._guessed[guess.path]
            for rows in self._rows.values():
                rows.pop(guess.path, None)

    def add_fault(self, kind: str, where: str, text: str, fix: str) -> None:
        """Keep a fault; `finish` raises them all."""
        self.faults.append(DatasetFault(kind, where, text, fix))

    def raise_faults(self) -> None:
        """Raise one PaddlexMLError when there are faults."""
        if self.faults:
            raise combine(self.faults, self.root)

    def finish(
        self,
        label_names: Sequence[str],
        keys: Sequence[Hashable] | None = None,
        retire: Sequence[Path] = (),
    ) -> SourceDataset:
        """Make the lists; `keys` are the labels given to `add` for each class (None: its name).

        Raises one PaddlexMLError with every fault, also when no image or no class is left, or when
        the account shows that labels would be lost.
        """
        if not self.faults and not any(self._rows.values()):
            fix = "look whether this is the folder that the annotations belong to"
            self.add_fault("nothing found", "", "the source names no image that is there", fix)
        if not self.faults and not label_names:
            fix = "label the images first"
            self.add_fault("nothing found", "", "the source names no class", fix)
        rename = self.options.rename or {}
        new_names, notes, faults = renaming.find_names(label_names, rename, _RENAME)
        self.notes += notes
        self.faults += faults
        for new in rename.values():
            self.faults += filter(None, [check_class_name(new, _RENAME)])
        names, ids = self._merge_names(new_names)
        order = dict(zip(label_names if keys is None else keys, ids, strict=True))
        self.raise_faults()
        # A list that lost all its images does not count: the rest is then one list, to be divided.
        filled = {name: rows for name, rows in self._rows.items() if rows or not self._missing}
        list_names = filled if len(filled) > 1 else ["train"]
        lists: dict[str, ImageList] = {}
        labelled: dict[str, bool] = {}
        for name, rows in zip(list_names, filled.values(), strict=True):
            shown = [{order[key] for key in row.shown} for row in rows.values()]
            unknown = ({order[k] for k in row.unknown if k in order} for row in rows.values())
            absent = self._list_absent(rows.values(), order, ids, new_names)
            values = targets.from_labels(shown, unknown, len(names), absent)
            lists[name] = ImageList(self.root, list(rows), values)
            labelled |= {path: bool(row.shown) for path, row in rows.items()}
        self._close_account(names, lists, labelled)
        disputed = [(path, order[key]) for path, key in self._disputed_labels if key in order]
        notes = [*self.notes, *self._tell_rows([f"{names[i]} in {path}" for path, i in disputed])]
        return SourceDataset(names, lists, list(retire), notes, self.account)

    def _tell_rows(self, disputed: Sequence[str]) -> Iterator[str]:
        """What to tell of images that were left out or came again, and of labels in dispute."""
        if self._missing:
            named = count(len(self._missing), "image is", "images are")
            yield f"{named} not there, left out: {first_names(self._missing, 5)}"
        if self._again:
            named = count(len(self._again), "image is", "images are")
            yield f"{named} named more than once: their labels were merged"
        if disputed:
            what = count(len(disputed), "label is", "labels are")
            text = "present by one record of an image and absent by another: present counts"
            yield f"{what} {text}: {first_names(disputed, 5)}"

    def _list_absent(
        self,
        rows: Iterable[ImageLabels],
        order: Mapping[Hashable, int],
        ids: Sequence[int],
        names: Sequence[str],
    ) -> Iterator[set[int] | None]:
        """The ids of the only absent classes, image by image; None where others are absent too.

        A class of several that were renamed to one (their `ids` and new `names`) is absent where
        all of them are; of several spellings of one name, what is known of any is known.
        """
        times = Counter(names)
        merged = {i: set[Hashable]() for i, n in zip(ids, names, strict=True) if times[n] > 1}
        for key, class_id in order.items():
            if class_id in merged:
                merged[class_id].add(key)
        for row in rows:
            if row.absent is None:
                yield None
                continue
            absent = {order[key] for key in row.absent if key in order}
            yield {i for i in absent if not merged.get(i, set()) - row.absent}

    def _close_account(
        self, names: list[str], lists: dict[str, ImageList], labelled: dict[str, bool]
    ) -> None:
        """Compare what the lists have with what lies in the folder. Raises PaddlexMLError."""
        self.account.class_names = names
        self.account.unknown = sum(targets.count_unknown(each.values) for each in lists.values())
        self.account.guesses = list(self._guessed.values())
        self.account.close(self.inventory, labelled)
        self.faults += self.account.find_faults(self.layout)
        if not self.faults:
            self.faults += filter(None, map(find_unlabelled_list, lists, lists.values()))
        self.raise_faults()

    def _merge_names(self, label_names: Sequence[str]) -> tuple[list[str], list[int]]:
        """Class names without other spellings of one name, and for each of `label_names` the
        number of its class. Spellings are a fault unless `merge_names` says what to do."""
        groups: dict[str, list[str]] = {}
        merge = self.options.merge_names
        for name in label_names:
            spellings = groups.setdefault(name if merge is False else fold_name(name), [])
            spellings += [name] * (name not in spellings)
        counts = self._count_labels(label_names) if len(groups) < len(label_names) else {}
        names: list[str] = []
        class_of: dict[str, int] = {}
        for spellings in groups.values():
            best = max(spellings, key=lambda name: counts.get(name, 0))  # the first of equals
            class_of.update(dict.fromkeys(spellings, len(names)))
            names.append(best)
            if len(spellings) > 1:
                others = [name for name in spellings if name != best]
                self.account.merged_names[best] = others
                if merge is None:
                    self._refuse_spellings(best, spellings)
        return names, [class_of[name] for name in label_names]

    def _count_labels(self, label_names: Sequence[str]) -> Counter[Hashable]:
        rows = (row for rows in self._rows.values() for row in rows.values())
        return Counter(label for row in rows for label in row.shown)

    def _refuse_spellings(self, best: str, spellings: list[str]) -> None:
        text = (
            f"{' and '.join(map(show_name, spellings))} differ only in capitals, spaces, "
            f"width or characters that cannot be seen; as one class: {show_name(best)}"
        )
        fix = (
            "-o CheckDataset.convert.merge_names=true, or "
            "-o CheckDataset.convert.merge_names=false to keep them apart"
        )
        self.add_fault("spellings of one name", "", text, fix)


def check_class_name(name: str, where: str) -> DatasetFault | None:
    """Return why a class name, stripped, cannot be in label.txt; None when it can."""
    # A tab is allowed; the other control characters, such as line ends, are invisible.
    if name and not re.search(rf"[\x00-\x08\x0a-\x1f\x7f{_NOT_UTF8}]", name):
        return None
    what = "has a line end, a control character, or letters that are not UTF-8"
    text = f"the class name {name!r:.100} {what if name else 'is empty'}"
    return DatasetFault("class name", where, text, "give the class a name of one line of text")


def order_names(
    root: Path,
    seen: Iterable[str],
    file: str = CLASS_FILE,
    parse: Callable[[str], str] = str.strip,
) -> tuple[list[str], list[DatasetFault]]:
    """Class names in the order of the ids, for a format that has no order of its own.

    The order of `file` where the data set has it (a class that it lacks is a fault), else
    alphabetical. `parse` returns the name in one of its lines, "" for none.
    """
    path = root / file
    if not path.is_file():
        return sorted(seen), []
    lines, faults, _ = read_lines(path, file)
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name, where = parse(line or ""), f"{file}:{number}"
        if not name:
            continue  # an empty line, or one that is a fault already
        if fault := check_class_name(name, where):
            faults.append(fault)
        if first.setdefault(name, number) != number:
            text, fix = f"the class {name!r} is in line {first[name]} already", "remove one line"
            faults.append(DatasetFault("duplicate class name", where, text, fix))
    names = list(first)
    for name in sorted(set(seen) - set(names)):
        text, fix = f"the class {name!r} is used but not named", f"add a line {name!r}"
        faults.append(DatasetFault("class not named", file, text, fix))
    return names, faults
