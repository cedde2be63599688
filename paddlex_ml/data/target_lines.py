# SPDX-License-Identifier: Apache-2.0
"""Targets of the images of a list as the values of its lines; `targets` has them in memory.

    0,1,-1,,0     dense: a value for each of C classes; -1 or nothing where nobody has looked
    @3,17?5       sparse: ids of the present classes; after ? those that nobody has looked for
    @3,17!5       sparse: ids of the present classes; after ! the absent ones: others are unknown

N images, C classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlex_ml.data.targets import (
    AT_ONCE,
    Dense,
    Mask,
    SparseTargets,
    Targets,
    blocks,
    concatenate,
    divide,
    take,
    to_sparse,
)
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.wording import count

SPARSE = "@"
"""How the values of a sparse line begin."""
WRONG_NUMBER = "wrong number of values"
OTHER_VALUE = "value other than 0 or 1"
"""Kinds of faults: too few or too many values, and a value that has the wrong form."""
WEIGHT_FIX = "; the weight of an image stands behind a second tab"
"""Added to a repair where the weight may stand behind a space or a comma."""
FOREIGN = "other signs than 0 to 9 and commas"
"""Kind of fault: the values are right but for their separators or digits."""
UNKNOWN_MARK, ABSENT_MARK = "?", "!"
"""Before the ids of the unknown classes, and of the absent ones where all others are unknown."""
_HIDDEN = "\0"  # one character for an unknown value; lines that have it are refused before
_IDS = "((?:[0-9]{1,9},)*[0-9]{1,9})"
_SPARSE_LINE = re.compile(rf"\s*{SPARSE}{_IDS}?(?:\?{_IDS}|(!){_IDS}?)?\s*", re.ASCII)
_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?"
_WEIGHT = re.compile(rf"({_DIGITS})(%?)", re.ASCII)
_CELL = re.compile(r"-1|[01](?:\.0*)?|0?\.[0-9]+|", re.ASCII)
_SHARES = re.compile(rf"(?<=[0-9])\s*:\s*{_DIGITS}(?=\s*(?:,|$))", re.ASCII)
_AROUND = " \t\"'[](){}"
_SEPARATORS = str.maketrans(
    dict.fromkeys("\uff0c\u3001;\uff1b|", ",") | dict.fromkeys("\u2212\u2013", "-")
)


def texts(targets: Targets) -> Iterator[str]:
    """The values of each line of a list."""
    if isinstance(targets, SparseTargets):
        sizes = np.char.str_len(np.arange(targets.num_classes).astype("U9")) + 1  # with its mark
        for shown, others, mark in choose_ids(targets, sizes):
            yield f"{SPARSE}{','.join(map(str, shown))}{mark}{','.join(map(str, others))}"
        return
    for _, table in blocks(targets):
        lines = np.full((len(table), 2 * table.shape[1] - 1), ord(","), np.uint8)
        lines[:, ::2] = np.where(table < 0, ord(UNKNOWN_MARK), table + ord("0"))
        for line, hidden in zip(lines, np.any(table < 0, axis=1).tolist(), strict=True):
            text = line.tobytes().decode("ascii")
            yield text.replace(UNKNOWN_MARK, str(UNKNOWN)) if hidden else text


def choose_ids(
    targets: Targets, sizes: npt.NDArray[np.int64]
) -> Iterator[tuple[list[int], list[int], str]]:
    """What is shortest to write of each image: ids of the present classes, and those of the unknown
    classes with UNKNOWN_MARK, or those of the absent ones with ABSENT_MARK, where these are
    shorter; without a mark all others are absent. `sizes`: letters that each class takes, [C].
    """
    every, total = np.arange(targets.shape[1]), int(sizes.sum())
    parts = (
        (take(targets, np.arange(part.start, part.stop)) for part in divide(targets.starts))
        if isinstance(targets, SparseTargets)
        else (table for _, table in blocks(targets))
    )
    for rows in map(to_sparse, parts):
        rows = rows.compared_with(np.minimum(rows.others, 0))
        ends, are_open = rows.starts.tolist(), (rows.others < 0).tolist()
        for begin, end, is_open in zip(ends, ends[1:], are_open, strict=False):
            ids, present = rows.ids[begin:end], rows.values[begin:end] > 0
            shown, given = ids[present].tolist(), ids[~present]
            if not len(given) and not is_open:
                yield shown, [], ""
                continue
            listed, rest = int(sizes[given].sum()), total - int(sizes[ids].sum())
            # Without an id there is no UNKNOWN_MARK, but ABSENT_MARK.
            by_absent = max(1, listed) < rest if is_open else max(1, rest) < listed
            if by_absent != is_open:
                given = np.delete(every, ids)
            mark = ABSENT_MARK if by_absent else UNKNOWN_MARK * bool(len(given))
            yield shown, given.tolist(), mark


def is_sparse(text: str) -> bool:
    """Whether the values of a line are ids."""
    return text.startswith(SPARSE) or (text[:1].isspace() and text.lstrip().startswith(SPARSE))


def count_classes(texts: Sequence[str]) -> int:
    """The highest id of sparse lines, plus one: the fewest classes that they may have."""
    return 1 + max((int(i) for text in texts for i in re.findall(r"[0-9]{1,9}", text)), default=-1)


class ValueFault(NamedTuple):
    """What is wrong with the values of a line."""

    line: int
    """Number of the line among those that were parsed, from 0."""
    kind: str
    what: str
    fix: str


def parse(
    values: list[str],
    num_classes: int,
    expected: str,
    *,
    others: int = 0,
    written: Sequence[str] | None = None,
) -> tuple[Targets, list[ValueFault]]:
    """The values of lines -> targets, with a fault for each line whose values are wrong.

    `expected` says where the number of classes is from, `others` how many lines of the list are
    read elsewhere, and right, and `written` how the list has the values where it has more than the
    caller gives: repairs keep it. A list with a sparse line is sparse: an
    array may take far more memory than its text. A wrong line is absent everywhere.
    """
    by_id = np.array([is_sparse(text) for text in values], np.bool_)
    chosen, rest = np.flatnonzero(by_id), np.flatnonzero(~by_id)
    cells, done = _parse_sparse([values[i] for i in chosen], num_classes)
    faults = [
        _explain_sparse(values[i], num_classes, expected)._replace(line=int(i))
        for i in chosen[~done]
    ]
    table, done = _parse_plain([values[i] for i in rest], num_classes)
    for k in np.flatnonzero(~done):
        found = _parse_dense(values[rest[k]], num_classes, expected)
        if isinstance(found, list):
            table[k] = found
        else:
            faults.append(found._replace(line=int(rest[k])))
    faults = _name_causes(written or values, faults, num_classes, others)
    if not len(chosen):
        return table, faults
    both = concatenate([cells, table]) if len(rest) else cells
    return take(both, np.argsort(np.concatenate([chosen, rest]))), sorted(faults)


def shorten(text: str) -> str:
    """A text for a repair, its middle left out where it is long."""
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"


def read_weight(word: str) -> str:
    """The weight that a word most likely is, as it is to be written; "" where it is none."""
    match = _WEIGHT.fullmatch(word.strip().translate(_SEPARATORS).strip(","))
    if match is None:
        return ""
    return f"{float(match[1]) / 100:g}" if match[2] else match[1]


def _name_causes(
    values: Sequence[str], faults: list[ValueFault], num_classes: int, others: int
) -> list[ValueFault]:
    """The faults with the most likely cause of each: a weight without its tab, or other signs."""
    found, example, extra, is_weight = [], "", 0, False
    for fault in faults:
        text = values[fault.line]
        plain = unicodedata.normalize("NFKC", text).translate(_SEPARATORS)
        shown = [sign for sign in plain if unicodedata.category(sign) != "Cf"]  # zero-width ones
        plain = "".join([str(unicodedata.decimal(sign, sign)) for sign in shown]).strip(_AROUND)
        joined: tuple[str, ...] = (",".join(plain.split()), ",".join(plain))  # 0 1 0, and 010
        joined = () if "," in plain or is_sparse(plain) else joined
        if (right := text.strip().rstrip(", ")) != text.strip() and _is_right(right, num_classes):
            fault = fault._replace(fix=f"remove the comma at the end: {shorten(right)}")
        for right in (plain, *joined):
            if right != text.strip() and _is_right(right, num_classes):
                fix = f"write it with 0 to 9, and commas between the values: {shorten(right)}"
                fault = fault._replace(kind=FOREIGN, fix=fix)
        at = max(plain.rfind(mark) for mark in ", ")
        head, weight = plain[: max(at, 0)].rstrip(), read_weight(plain[at + 1 :])
        for before in (head, head.removesuffix(",").rstrip()) if weight else ():
            if before.endswith(",") and not is_sparse(before):
                continue  # of 0, 1, 2 the last one is hardly a weight
            if before and _is_right(before, num_classes):
                extra += fault.kind == WRONG_NUMBER
                is_weight |= weight not in ("0", "1")
                example = example or f"{WEIGHT_FIX}: {shorten(before)}<tab>{weight}"
                fault = fault._replace(fix=fault.fix.removesuffix(WEIGHT_FIX) + example)
                break
        found.append(fault)
    if extra < len(values) + others or extra < 2:
        return found
    fix = f"every line has {count(num_classes + 1, 'value')}: "
    fix += "the last one is no label" if is_weight else "add the missing class to label.txt"
    fix += example
    return [fault._replace(fix=fix) for fault in found]


def _is_right(text: str, num_classes: int) -> bool:
    """Whether values could be those of a line, which may have soft ones."""
    if is_sparse(text):
        match = _SPARSE_LINE.fullmatch(close_up(_SHARES.sub("", text)))
        ids = [int(word) for word in re.findall("[0-9]+", match[0])] if match else [num_classes]
        return all(i < num_classes for i in ids) and len(set(ids)) == len(ids)
    words = text.split(",")
    return len(words) == num_classes and all(_CELL.fullmatch(word.strip()) for word in words)


def _parse_sparse(values: list[str], num_classes: int) -> tuple[SparseTargets, Mask]:
    """Parse lines of ids, many at once. Returns their cells, and which lines are done."""
    sizes = np.array([0, *map(len, values)], np.int64)
    parts: list[Targets] = [to_sparse(np.zeros((0, num_classes), np.int8))]
    done = [np.zeros(0, np.bool_)]
    for rows in divide(np.cumsum(sizes)):
        found, right = _parse_ids(values[rows], num_classes)
        parts.append(found)
        done.append(right)
    return to_sparse(concatenate(parts)), np.concatenate(done)


def _parse_ids(values: list[str], num_classes: int) -> tuple[SparseTargets, Mask]:
    matches = [_SPARSE_LINE.fullmatch(close_up(text)) for text in values]
    done = np.array([match is not None for match in matches], np.bool_)
    lines, ids, kinds = [], [], []
    for group, value in ((1, 1), (2, UNKNOWN), (4, 0)):
        parts = [(match and match[group]) or "" for match in matches]
        text = ",".join(filter(None, parts))
        numbers = np.fromstring(text, np.int64, sep=",") if text else np.zeros(0, np.int64)
        sizes = np.array([part.count(",") + 1 if part else 0 for part in parts], np.int64)
        lines.append(np.repeat(np.arange(len(values)), sizes))
        ids.append(numbers)
        kinds.append(np.full(len(numbers), value, np.int8))
    line, class_id, kind = np.concatenate(lines), np.concatenate(ids), np.concatenate(kinds)
    order = np.lexsort((class_id, line))
    line, class_id, kind = line[order], class_id[order], kind[order]
    again = np.flatnonzero((np.diff(line) == 0) & (np.diff(class_id) == 0))
    done[line[again]] = done[line[class_id >= num_classes]] = False
    are_open = [bool(match and match[3]) for match in matches]
    others = np.where(np.array(are_open, np.bool_) & done, UNKNOWN, 0).astype(np.int8)
    kept = done[line]
    starts = np.searchsorted(line[kept], np.arange(len(values) + 1))
    ids32 = class_id[kept].astype(np.int32)
    return SparseTargets(starts, ids32, kind[kept], others, num_classes), done


def _parse_plain(values: list[str], num_classes: int) -> tuple[Dense, Mask]:
    """Parse the texts that are exactly "0,1,-1,..." all at once: a loop over values would take
    minutes for a large set. Returns targets [N, C] and which rows are done."""
    width = 2 * num_classes - 1
    short = [text if len(text) == width else _shorten(text) for text in values]
    done = np.array([len(text) == width and text.isascii() for text in short], np.bool_)
    targets = np.zeros((len(short), num_classes), np.int8)
    rows = np.flatnonzero(done)
    step = max(1, AT_ONCE // max(1, width))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        text = "".join([short[i] for i in part])
        table = np.frombuffer(text.encode("ascii"), np.uint8).reshape(-1, width)
        digits = table[:, ::2] - ord("0")  # other characters wrap around to values above 1
        hidden = table[:, ::2] == ord(_HIDDEN)
        right = ((digits <= 1) | hidden).all(axis=1) & (table[:, 1::2] == ord(",")).all(axis=1)
        targets[part] = np.where(hidden, np.int8(UNKNOWN), digits.view(np.int8))
        targets[part[~right]], done[part] = 0, right
    return targets, done


def _shorten(text: str) -> str:
    """The values with one character for each unknown one."""
    text = re.sub(r"(?<=,)(?=,|$)|^(?=,)", _HIDDEN, close_up(text))
    return text.replace(str(UNKNOWN), _HIDDEN)


def close_up(text: str) -> str:
    """The text without spaces around its marks."""
    for mark in ",?!@" if " " in text else "":
        text = mark.join([part.strip() for part in text.split(mark)])
    return text


def _parse_dense(text: str, num_classes: int, expected: str) -> list[int] | ValueFault:
    values = [value.strip() for value in text.split(",")]
    known = {"0": 0, "1": 1, str(UNKNOWN): UNKNOWN, "": UNKNOWN}
    wrong = [k for k, value in enumerate(values) if value not in known]
    if len(values) != num_classes or not text.strip():
        many = len(values) > num_classes
        count = f"{len(values)} value{'s' * (len(values) != 1)}" if text.strip() else "no values"
        found = f"label vector has {count}, {expected}"
        fix = f"{'remove the extra' if many else 'add the missing'} values, or correct label.txt"
        if not text.strip():
            fix = "write a value for each class (-1 where nobody looked), "
            fix += f"or {SPARSE} alone where the image shows none"
        if many and wrong:
            fix += f"; a number such as 0.7 has a point, no comma{WEIGHT_FIX}"
        return ValueFault(0, WRONG_NUMBER, found, fix)
    if wrong:
        found = f"the value of class {wrong[0]} is {values[wrong[0]]!r}, neither 0 nor 1"
        fix = "write 1 where the image shows the class, 0 where it does not, -1 where nobody looked"
        fix += WEIGHT_FIX * (len(values[wrong[0]].split()) > 1)
        return ValueFault(0, OTHER_VALUE, found, fix)
    return [known[value] for value in values]


def _explain_sparse(text: str, num_classes: int, expected: str) -> ValueFault:
    """What is wrong with a line of ids."""
    line = text.strip().removeprefix(SPARSE)
    mark = ABSENT_MARK if ABSENT_MARK in line else UNKNOWN_MARK
    if ABSENT_MARK in line and UNKNOWN_MARK in line:
        what = f"the line has both {UNKNOWN_MARK} and {ABSENT_MARK}"
        fix = (
            f"keep {UNKNOWN_MARK} with the ids that nobody looked for (all others are absent), or "
            f"{ABSENT_MARK} with those that are absent (all others are unknown)"
        )
        return ValueFault(0, "malformed line", what, fix)
    shown, _, rest = line.partition(mark)
    states = {1: "present", 0: "absent", UNKNOWN: "unknown"}
    found: dict[int, int] = {}
    for part, value in ((shown, 1), (rest, 0 if mark == ABSENT_MARK else UNKNOWN)):
        for word in part.split(",") if part.strip() else ():
            if not re.fullmatch("[0-9]+", word.strip()):
                what = f"{word.strip()!r} is no class id"
                known = f"those that are absent, where all others are unknown: {SPARSE}3,17!5"
                hidden = f"those that nobody looked for: {SPARSE}3,17?5"
                fix = f"write ids as in {SPARSE}3,17 ({known if mark == ABSENT_MARK else hidden})"
                fix += WEIGHT_FIX * (len(word.split()) > 1)
                return ValueFault(0, "malformed line", what, fix)
            class_id = int(word) if len(word.strip()) < 10 else num_classes
            if class_id >= num_classes:
                what = f"there is no class {word.strip():.20}: {expected}"
                fix = f"write ids from 0 to {num_classes - 1}, or correct label.txt"
                return ValueFault(0, "class id out of range", what, fix)
            if class_id in found:
                what = f"class {class_id} is named twice"
                fix = "remove one of the two"
                if found[class_id] != value:
                    what = f"class {class_id} is named as present and as {states[value]}"
                    fix = (
                        f"keep it before {mark} where the image shows the class, else behind {mark}"
                    )
                return ValueFault(0, "class named twice", what, fix)
            found[class_id] = value
    return ValueFault(0, "malformed line", "no class id follows ?", "remove ?, or write ids behind")
