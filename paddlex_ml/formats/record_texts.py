# SPDX-License-Identifier: Apache-2.0
"""Texts of records -> names of classes: what separates them, what is told of it and asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from paddlex_ml import systems
from paddlex_ml.formats.collector import CLASS_FILE, Collector, order_names
from paddlex_ml.formats.table_cells import SURE, cut, join_signs, parse_signs
from paddlex_ml.wording import count

_SEPARATORS = ("|", ";", ",", "、", "，")
_SEPARATE = tuple(sign for sign in SURE if sign != "\n")  # a line end is refused


@dataclass
class TextReader:
    """Divides texts into names; a text is one name unless it has a separator."""

    collector: Collector
    names: set[str]
    """Of the classes, where they are known: none of them is divided."""
    _whole: dict[str, str] = field(default_factory=dict)  # name -> place of its first record
    _was_cut: int = 0
    _used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, collector: Collector, names: Iterable[str] = ()) -> TextReader:
        """A reader that knows `names`, else those of the class file."""
        known = set(names)
        if not known and (collector.root / CLASS_FILE).is_file():
            known = set(order_names(collector.root, ())[0])
        return cls(collector, known)

    def read(self, text: str, where: str) -> list[str]:
        """The names of a text."""
        if not text or text in self.names:
            return [text] if text else []
        if separator := self.collector.options.separator:
            return list(cut(text, parse_signs(separator), self.names))
        if not (row := match_names(text, self.names)):
            row = list(cut(text, _SEPARATE, self.names))
            self._was_cut += len(row) > 1
            self._used.update(sign for sign in _SEPARATE if len(row) > 1 and sign in text)
        for part in row:
            self._whole.setdefault(part, where)
        return row

    def close(self) -> None:
        """Tell what has been divided, and refuse what may be one name or several."""
        if self._was_cut:
            self.collector.notes.append(
                f"{count(self._was_cut, 'text has', 'texts have')} several names, separated by "
                f"{join_signs(sorted(self._used))}; "
                f"where such a text is one name, write {CLASS_FILE} with all names, one a line"
            )
        _refuse_combinations(self.collector, self._whole, self.names)


def match_names(text: str, names: set[str]) -> list[str]:
    """The names of classes that a text consists of, the longest first; [] where it does not."""
    if not names:
        return []
    words, found = [word for word in re.split(r"[\s,;|、，]+", text) if word], []
    while words:
        for taken in range(len(words), 0, -1):
            if (name := " ".join(words[:taken])) in names:
                found.append(name)
                del words[:taken]
                break
        else:
            return []
    return found


def _refuse_combinations(collector: Collector, texts: dict[str, str], names: set[str]) -> None:
    """Add a fault where texts are most likely several names: their parts come again in others."""
    texts = {text: where for text, where in texts.items() if not match_names(text, names)}
    for separator in (*_SEPARATORS, " "):
        joint = [text for text in texts if separator in text]
        counts: dict[str, int] = {}
        for text in texts:
            for part in {part.strip() for part in text.split(separator)}:
                counts[part] = counts.get(part, 0) + 1
        for text in joint:
            # A space is also in names of two words: "red car", "blue car".
            parts = [part.strip() for part in text.split(separator) if part.strip()]
            again = [counts[part] > 1 for part in parts]
            if all(again) if separator == " " else any(again):
                shown = " and ".join(map(repr, parts[:3]))
                option = f'CheckDataset.convert.separator="{separator}"'
                what = f"{text!r} is one name, or several ({shown} are in other records, too)"
                fix = f"-o {systems.quote(option)}, or, if it is one name, write {CLASS_FILE} "
                fix += "with all names, one a line"
                collector.add_fault("one name or several", texts[text], what, fix)
                return
