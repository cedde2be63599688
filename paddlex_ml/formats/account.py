# SPDX-License-Identifier: Apache-2.0
"""What a conversion did with every annotation file, record, image and class name of a source.

The readers enter what they use and what they drop; `Collector.finish` adds the images and compares
with everything that lies in the folder, so that nothing is lost in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import UTF8
from paddlex_ml.formats.subsets import parse_subset_of_path
from paddlex_ml.storage import csv_text
from paddlex_ml.wording import count, first_names, part_of

NOT_READ = "not read"
"""The reason of a file that looks like annotations and that the reader does not know."""
_EXAMPLES = 5
_ROWS = 1000  # of the table in the result file; the file conversion.csv has them all


class GuessedImage(NamedTuple):
    """An image that was not found as written: the name, the file taken for it, and how."""

    name: str
    path: str
    how: str
    where: str


@dataclass
class _Dropped:
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Account:
    """The counts of one conversion; paths are relative to the data set."""

    records: dict[str, int] = field(default_factory=dict)
    """Annotation records (rows, boxes, tags) by the file that has them: the files used."""
    left_out: dict[str, str] = field(default_factory=dict)
    """File or folder -> why it has no part in the lists."""
    guesses: list[GuessedImage] = field(default_factory=list)
    not_annotated: dict[str, None] = field(default_factory=dict)
    """Images of a list that no annotation describes."""
    merged_names: dict[str, list[str]] = field(default_factory=dict)
    """Class -> its other spellings, which were merged into it."""
    names_left_out: dict[str, str] = field(default_factory=dict)
    """Class name -> why it is no class."""
    class_names: list[str] = field(default_factory=list)
    images_seen: int = 0
    files_seen: int = 0
    with_labels: int = 0
    without_labels: int = 0
    not_named: int = 0
    unknown: int = 0
    """Labels of images in the lists that the source leaves open."""
    encodings: dict[str, list[str]] = field(default_factory=dict)
    """Encoding other than UTF-8 -> the files that have it."""
    outputs: list[str] = field(default_factory=list)
    """Output folders of commands, which are not looked into."""
    _dropped: dict[tuple[str, str], _Dropped] = field(default_factory=dict)

    def use(self, file: str, records: int = 0) -> None:
        """Enter a file that is read, and how many annotation records it has."""
        self.records[file] = self.records.get(file, 0) + records

    def note_encoding(self, file: str, encoding: str) -> None:
        """Enter the encoding of a text file."""
        if encoding != UTF8:
            self.encodings.setdefault(encoding, []).append(file)

    def drop(self, file: str, reason: str, example: str = "", count: int = 1) -> None:
        """Enter records of `file` that have no effect."""
        dropped = self._dropped.setdefault((file, reason), _Dropped())
        dropped.count += count
        if example and len(dropped.examples) < _EXAMPLES:
            dropped.examples.append(example)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> records."""
        counts: dict[str, int] = {}
        for (_, reason), dropped in self._dropped.items():
            counts[reason] = counts.get(reason, 0) + dropped.count
        return counts

    def close(self, inventory: Inventory, labelled: dict[str, bool]) -> None:
        """Add what lies in the folder: `labelled` tells whether an image of the lists has a label.

        Images of the lists are not left out; of the others, and of the files that look like
        annotations, those without a reason get one.
        """
        self.files_seen = len({*inventory.annotations, *self.records})
        self.images_seen = len(inventory.images)
        self.with_labels = sum(labelled.values())
        self.without_labels = len(labelled) - self.with_labels
        self.left_out.update(inventory.unreadable)
        self.outputs = inventory.outputs
        self.left_out.update(dict.fromkeys(inventory.outputs, "what a command has written"))
        for path in inventory.annotations:
            if path not in self.records:
                test = parse_subset_of_path(path) == "test"
                reason = "of the test subset" if test else NOT_READ
                ours = path in inventory.own_lists
                self.left_out.setdefault(path, "a list to be written" if ours else reason)
        for path in inventory.images:
            if path not in labelled and path not in self.left_out:
                test = parse_subset_of_path(path) == "test"
                self.left_out[path] = "of the test subset" if test else "no annotation names it"
                self.not_named += not test

    def find_faults(self, layout: str) -> list[DatasetFault]:
        """Faults that only the counts show; `layout` tells how the format's files must lie."""
        faults = []
        for (file, reason), dropped in self._dropped.items():
            if dropped.count and dropped.count == self.records.get(file):
                records = f"all {dropped.count:,} records of {file}"
                if dropped.count == 1:
                    records = f"the only record of {file}"
                text = f"{records} would be dropped: {reason}"
                if dropped.examples:
                    text += f" ({first_names(dropped.examples, _EXAMPLES)})"
                fix = "correct the file, or name the data set folder that it belongs to"
                faults.append(DatasetFault("records dropped", file, text, fix))
        unread = [path for path, reason in self.left_out.items() if reason == NOT_READ]
        bare = len(self.not_annotated) + self.not_named
        if unread and 2 * bare > self.with_labels + self.without_labels + self.not_named:
            nouns, verbs = ("image", "images"), ("has", "have")
            what = "file that may be annotations is", "files that may be annotations are"
            text = (
                f"{part_of(bare, self.images_seen, nouns, verbs)} no annotation, but "
                f"{count(len(unread), *what)} not read: {first_names(unread, _EXAMPLES)}"
            )
            fix = f"{layout}; files that are no annotations may be moved out of the data set"
            faults.append(DatasetFault("annotations not read", "", text, fix))
        return faults

    def format_lines(self) -> list[str]:
        """The account in a few lines for the log."""
        lines = [
            f"annotation files: {self.files_seen:,} seen, {len(self.records):,} used; "
            f"records: {sum(self.records.values()):,} read, {sum(self.dropped.values()):,} dropped",
            f"images: {self.images_seen:,} seen, {self.with_labels:,} with labels, "
            f"{self.without_labels:,} without, {self.not_named:,} not named by an annotation",
        ]
        if self.unknown:
            cells = (self.with_labels + self.without_labels) * len(self.class_names)
            lines.append(f"labels: {self.unknown:,} of {cells:,} are unknown: neither 1 nor 0")
        if self.outputs:
            shown = first_names(self.outputs, 3)
            lines.append(f"folders with the results of a command are no source: {shown}")
        for encoding, files in self.encodings.items():
            lines.append(
                f"{count(len(files), 'file is', 'files are')} read as {encoding}: "
                f"{first_names(files, 3)}"
            )
        examples: dict[str, list[str]] = {}
        for (_, reason), dropped in self._dropped.items():
            examples.setdefault(reason, []).extend(dropped.examples)
        for reason, number in self.dropped.items():
            shown = f": {first_names(examples[reason], _EXAMPLES)}" if examples[reason] else ""
            lines.append(f"{count(number, 'record')} dropped, {reason}{shown}")
        found: dict[str, list[str]] = {}
        for guess in self.guesses:
            found.setdefault(guess.how, []).append(f"{guess.name} = {guess.path}")
        for how, pairs in found.items():
            lines.append(
                f"{count(len(pairs), 'image was', 'images were')} found {how}: "
                f"{first_names(pairs, 3)}"
            )
        for name, others in self.merged_names.items():
            lines.append(f"the class {name!r} is also spelt {first_names(list(map(repr, others)))}")
        for name, reason in self.names_left_out.items():
            lines.append(f"the class {name!r} is left out: {reason}")
        return lines

    def describe(self) -> dict[str, Any]:
        """The account as plain JSON values, the longest tables cut after 1,000 rows."""
        reasons: dict[str, list[str]] = {}
        for path, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(path)
        return {
            "annotation_files": {"seen": self.files_seen, "used": len(self.records)},
            "records": {"read": sum(self.records.values()), "dropped": self.dropped},
            "images": {
                "seen": self.images_seen,
                "with_labels": self.with_labels,
                "without_labels": self.without_labels,
                "not_annotated": len(self.not_annotated),
                "not_named": self.not_named,
            },
            "unknown_labels": self.unknown,
            "classes": {
                "names": self.class_names,
                "merged": self.merged_names,
                "left_out": self.names_left_out,
            },
            "left_out": {reason: len(paths) for reason, paths in reasons.items()},
            "left_out_files": {reason: paths[:_ROWS] for reason, paths in reasons.items()},
            "encodings": {name: len(files) for name, files in self.encodings.items()},
            "guesses": [list(guess) for guess in self.guesses[:_ROWS]],
        }

    def format_csv(self) -> str:
        """Every file left out and every image found by a guess, one a row, for conversion.csv."""
        rows = [("file", "what", "why")]
        rows += [(path, "left out", why) for path, why in self.left_out.items()]
        rows += [
            (guess.path, f"found {guess.how}", f"{guess.where} names {guess.name}")
            for guess in self.guesses
        ]
        rows += [(path, "no annotation", "") for path in self.not_annotated]
        # A name that is not UTF-8 has lone surrogates, which no text file can hold.
        return csv_text.write(rows).encode("utf-8", "backslashreplace").decode()
