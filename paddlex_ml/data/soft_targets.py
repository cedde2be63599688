# SPDX-License-Identifier: Apache-2.0
"""Soft targets and weights of images: what a line of train.txt may say beyond 1, 0 and unknown.

    0,0.7,1      dense: class 1 with the value 0.7
    @3:0.7,17    sparse: class 3 with the value 0.7, class 17 present

A soft value is a number between 0 and 1: the share of the annotators that said yes, or the score of
another model. `Targets` keeps its hard form, 1 from HALF on and 0 below; `SoftCells` has the values
themselves. A weight, in a third column, says how much an image counts in the loss: 1 without it.

N images, C classes, M soft values.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from paddlex_ml import program
from paddlex_ml.data import target_lines, targets
from paddlex_ml.data.target_lines import SPARSE, ValueFault
from paddlex_ml.data.targets import AT_ONCE, Rows, Targets
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.wording import count

HALF = 0.5
"""The lowest soft value whose class counts as present wherever labels are counted."""
Weights = npt.NDArray[np.float32]
"""How much each image counts in the loss, [N], at least 0."""
OPTION_FIX = (
    f"-o Train.soft_labels=true reads soft values ({program.page('labels.md')}); else write 1 "
    "where the image shows the class, 0 where it does not, -1 where nobody looked"
)
VAL_FIX = (
    "write 1, 0 or -1 (unknown), or move the line to train.txt: scores are measured with certain "
    "labels alone"
)
_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?"
_NUMBER = re.compile(_DIGITS, re.ASCII)
_VALUE = rf"(?:-1(?:\.0*)?|{_DIGITS})?"
_SHARE = re.compile(rf"(?<![0-9])([0-9]{{1,9}})\s*:\s*({_DIGITS})(?=\s*(?:,|$))", re.ASCII)
_take_id = operator.itemgetter(1)  # of a match: faster than a template
_SPARSE_PARTS = re.compile(r"([^?!]*)(.*)", re.DOTALL)
_WORD = re.compile(_VALUE, re.ASCII)
_NUMERIC = re.compile(r"[0-9]\s*[.:eE]|\.[0-9]", re.ASCII)
"""What a line has where soft values may be meant."""
_EXACT, _LONG = 15, 24
"""Letters of a number up to which its digits are an integer that float64 has exactly; and those of
the longest one that is read together with others."""
_POWERS = np.array([float(f"1e{k}") for k in range(_EXACT + 1)])
_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SoftCells:
    """The cells of a list that have a soft value, image by image, in the order of the classes."""

    starts: npt.NDArray[np.int64]
    """Where the cells of each image begin, [N + 1]; the last one is their number M."""
    ids: npt.NDArray[np.int32]
    """Class of each cell, [M]."""
    values: npt.NDArray[np.float32]
    """Above 0 and below 1, [M]."""

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.starts) - 1

    def images(self) -> npt.NDArray[np.int64]:
        """Number of the image of each cell, [M]."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def take(self, rows: Rows) -> SoftCells | None:
        """The images of some numbers, or of a mask [N], in that order; None without a cell."""
        numbers = np.arange(len(self))[np.asarray(rows, None if len(rows) else np.int64)]
        lengths = np.diff(self.starts)[numbers]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        cells = np.arange(starts[-1]) + np.repeat(self.starts[numbers] - starts[:-1], lengths)
        return SoftCells(starts, self.ids[cells], self.values[cells]) if len(cells) else None

    def fill(self, row: np.ndarray, image: int) -> np.ndarray:
        """The cells [C] of one image with their soft values, float32."""
        part = slice(self.starts[image], self.starts[image + 1])
        filled: np.ndarray = row.astype(np.float32)
        filled[self.ids[part]] = self.values[part]
        return filled


def from_cells(
    images: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    size: int,
) -> SoftCells | None:
    """Soft cells in any order, each given once, of `size` images; None where there are none."""
    step = np.diff(images)
    if not ((step > 0) | ((step == 0) & (np.diff(ids) > 0))).all():
        order = np.lexsort((ids, images))
        images, ids, values = images[order], ids[order], values[order]
    starts = np.searchsorted(images, np.arange(size + 1)).astype(np.int64)
    return SoftCells(starts, ids.astype(np.int32), values) if len(ids) else None


def concatenate(parts: Sequence[SoftCells | None], sizes: Sequence[int]) -> SoftCells | None:
    """The cells of several lists of `sizes` images, one after the other."""
    begins = np.cumsum([0, *sizes])
    found = [(part, begin) for part, begin in zip(parts, begins[:-1], strict=True) if part]
    if not found:
        return None
    images = np.concatenate([part.images() + begin for part, begin in found])
    ids = np.concatenate([part.ids for part, _ in found]).astype(np.int64)
    return from_cells(images, ids, np.concatenate([p.values for p, _ in found]), int(begins[-1]))


def join_weights(parts: Sequence[Weights | None], sizes: Sequence[int]) -> Weights | None:
    """The weights of several lists of `sizes` images, one after the other."""
    if all(part is None for part in parts):
        return None
    each = zip(parts, sizes, strict=True)
    return np.concatenate([np.ones(n, np.float32) if part is None else part for part, n in each])


def keep_agreeing(soft: SoftCells | None, values: Targets) -> SoftCells | None:
    """The cells whose hard form is still what `values` has; any other one was changed there."""
    if soft is None:
        return None
    images, ids = soft.images(), soft.ids.astype(np.int64)
    kept = targets.look_up(values, images, ids) == (soft.values >= HALF)
    return from_cells(images[kept], ids[kept], soft.values[kept], len(soft))


def map_classes(
    soft: SoftCells | None, values: Targets, new_ids: npt.NDArray[np.int64], num_classes: int
) -> tuple[Targets, SoftCells | None]:
    """The same images with other classes, as `targets.map_classes`, with their soft values.

    Of several that become one class the highest value counts: 1 where one of them is present for
    certain, else the highest soft value; it is unknown where that is below HALF and another one is
    unknown. `values` [N, C] has the hard form of `soft`.
    """
    mapped = targets.map_classes(values, new_ids, num_classes)
    if soft is None:
        return mapped, None
    images, ids = soft.images(), soft.ids.astype(np.int64)
    open_ = targets.put(values, images, ids, np.zeros(len(ids), np.int8))
    certain = targets.map_classes(open_, new_ids, num_classes)
    ids, shares = new_ids[ids], soft.values
    order = np.lexsort((-shares, ids, images))
    images, ids, shares = images[order], ids[order], shares[order]
    kept = np.ones(len(order), np.bool_)
    kept[1:] = (np.diff(images) > 0) | (np.diff(ids) > 0)
    kept &= targets.look_up(certain, images, ids) != 1
    return mapped, keep_agreeing(
        from_cells(images[kept], ids[kept], shares[kept], len(soft)), mapped
    )


def raise_implied(
    soft: SoftCells | None, before: Targets, after: Targets, implied_by: Mapping[int, Sequence[int]]
) -> tuple[SoftCells | None, int]:
    """The soft values after labels were completed: `after` is `before` with implied classes. And
    how many labels have another soft value than before, a new one, or none any more.

    An implied class is as certain as the most certain class that implies it, and never less than
    its own value says. `implied_by`: class -> all that imply it, directly or through others.
    """
    if soft is None:
        return None, 0
    rows = np.flatnonzero(np.diff(soft.starts))
    part = soft.take(rows)
    assert part is not None
    classes = np.array(sorted({*implied_by, *chain.from_iterable(implied_by.values())}), np.int64)
    column = np.full(before.shape[1], -1, np.int64)
    column[classes] = np.arange(len(classes))
    concerned = column[part.ids] >= 0
    rest = rows[part.images()[~concerned]], part.ids[~concerned], part.values[~concerned]
    images, ids, values = (
        each[concerned] for each in (part.images(), column[part.ids], part.values)
    )
    old, new = (
        targets.choose_classes(targets.take(each, rows), classes) for each in (before, after)
    )
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [rest]
    changed = 0
    for start, table in targets.blocks(old):
        inside = slice(*np.searchsorted(images, (start, start + len(table))))
        shares = np.maximum(table, 0).astype(np.float32)
        shares[images[inside] - start, ids[inside]] = values[inside]
        raised = shares.copy()
        for class_id, others in implied_by.items():
            highest = shares[:, column[list(others)]].max(axis=1)
            raised[:, column[class_id]] = np.maximum(shares[:, column[class_id]], highest)
        is_known = targets.dense(targets.take(new, np.arange(start, start + len(table)))) >= 0
        places = np.nonzero((raised > 0) & (raised < 1) & is_known)
        is_new = (raised != shares) & is_known & ((shares > 0) | (raised < 1))
        changed += int(np.count_nonzero(is_new))
        found.append((rows[places[0] + start], classes[places[1]], raised[places]))
    chosen = [np.concatenate(each) for each in zip(*found, strict=True)]
    return from_cells(chosen[0], chosen[1], chosen[2], len(soft)), changed


def normalise(weights: Weights) -> Weights:
    """The weights with the mean 1, so that a learning rate keeps its meaning."""
    scaled: Weights = (weights / weights.mean(dtype=np.float64)).astype(np.float32)
    return scaled


def summarise(soft: SoftCells | None, weights: Weights | None) -> dict[str, dict[str, float]]:
    """What train.txt has: `soft_labels` (labels, images) and `weights` (images other than 1, min,
    median, max, as written); each only where there are some."""
    found: dict[str, dict[str, float]] = {}
    if soft is not None:
        images = int(np.count_nonzero(np.diff(soft.starts)))
        found["soft_labels"] = {"labels": len(soft.ids), "images": images}
    if weights is not None:
        numbers = weights.min(), np.median(weights), weights.max()
        # The shortest text of a float32: 0.1, not 0.10000000149.
        ends = {k: float(str(n)) for k, n in zip(("min", "median", "max"), numbers, strict=True)}
        found["weights"] = {"images": int(np.count_nonzero(weights != 1)), **ends}
    return found


def tell(soft: SoftCells | None, weights: Weights | None) -> list[str]:
    """The same in sentences for a user."""
    found, told = summarise(soft, weights), []
    if counts := found.get("soft_labels"):
        labels, images = (count(int(counts[f"{noun}s"]), noun) for noun in ("label", "image"))
        told.append(
            f"train.txt: soft values for {labels} of {images}; where labels are counted, they are "
            f"present from {HALF} on"
        )
    if counts := found.get("weights"):
        told.append(
            f"train.txt: {count(int(counts['images']), 'image has', 'images have')} a weight other "
            f"than 1: {counts['min']:g} at least, {counts['median']:g} in the middle, "
            f"{counts['max']:g} at most (a training divides them by their mean)"
        )
    return told


def texts(values: Targets, soft: SoftCells | None) -> Iterator[str]:
    """The values of each line of a list, with its soft ones."""
    lines = target_lines.texts(values)
    if soft is None:
        yield from lines
        return
    ids = soft.ids.tolist()
    shares = soft.values.astype(np.str_).tolist()  # the shortest text of a float32
    for line, begin, end in zip(
        lines, soft.starts[:-1].tolist(), soft.starts[1:].tolist(), strict=True
    ):
        if begin == end:
            yield line
        elif line.startswith(SPARSE):
            yield _mix_in(line, dict(zip(ids[begin:end], shares[begin:end], strict=True)))
        else:
            cells = line.split(",")
            for class_id, share in zip(ids[begin:end], shares[begin:end], strict=True):
                cells[class_id] = share
            yield ",".join(cells)


def _mix_in(line: str, shares: dict[int, str]) -> str:
    """A sparse line with soft values: they stand among the present classes."""
    match = _SPARSE_PARTS.fullmatch(line.removeprefix(SPARSE))
    assert match is not None
    shown = {int(text): text for text in match[1].split(",") if text}
    shown |= {class_id: f"{class_id}:{share}" for class_id, share in shares.items()}
    mark, others = match[2][:1], match[2][1:].split(",")
    rest = [text for text in others if text and int(text) not in shares]
    front = SPARSE + ",".join(shown[i] for i in sorted(shown))
    # "!" without an id says that all classes that are not named are unknown.
    return front + (mark + ",".join(rest) if rest or mark == "!" else "")


class SoftLines(NamedTuple):
    """The values of lines."""

    values: Targets
    """Hard form, [N, C]."""
    soft: SoftCells | None
    faults: list[ValueFault]


def parse(values: list[str], num_classes: int, expected: str, refusal: str = "") -> SoftLines:
    """The values of lines, as `target_lines.parse`, with their soft values.

    `refusal` is the repair of soft values where a list may not have them; "" reads them.
    """
    chosen = [
        i
        for i, text in enumerate(values)
        if "." in text or ":" in text or "e" in text or "E" in text
    ]
    if not chosen:
        table, faults = target_lines.parse(values, num_classes, expected)
        faults = faults if refusal else [_explain(values[f.line], f) for f in faults]
        return SoftLines(table, None, faults)
    plain = values.copy()
    by_id, dense = list[int](), list[int]()
    for i in chosen:
        (by_id if target_lines.is_sparse(values[i]) else dense).append(i)
    images, ids, shares = _take_sparse(plain, by_id)
    step = max(1, AT_ONCE // max(1, 64 * num_classes))
    parts = [dense[start : start + step] for start in range(0, len(dense), step)]
    blocks = [_read_dense([values[i] for i in part], part, num_classes) for part in parts]
    done = np.concatenate([np.zeros(0, np.int64), *(block.lines for block in blocks)])
    rest = np.delete(np.arange(len(values)), done)
    table, faults = target_lines.parse(
        *([plain[i] for i in rest.tolist()], num_classes, expected),
        others=len(done),
        written=[values[i] for i in rest.tolist()],
    )
    faults = [fault._replace(line=int(rest[fault.line])) for fault in faults]
    if blocks:
        joined = targets.concatenate([table, *(block.hard for block in blocks)])
        table = targets.take(joined, np.argsort(np.concatenate([rest, done])))
    faults = [
        _explain(values[f.line], f) if not refusal or _NUMERIC.search(values[f.line]) else f
        for f in faults
    ]
    right = np.ones(len(values), np.bool_)
    right[[fault.line for fault in faults]] = False
    if refusal:
        faults += [_refuse(i, values[i], refusal) for i in chosen if right[i]]
        return SoftLines(table, None, sorted(faults))
    kept = right[images] & (ids < num_classes)
    images, ids, shares = images[kept], ids[kept], shares[kept]
    table = targets.put(table, images, ids, (shares >= HALF).astype(np.int8))
    within = (shares > 0) & (shares < 1)
    cells = [(images[within], ids[within], shares[within]), *(block.cells for block in blocks)]
    images, ids, shares = (np.concatenate(each) for each in zip(*cells, strict=True))
    return SoftLines(table, from_cells(images, ids, shares, len(values)), faults)


_Cells: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]


def _take_sparse(lines: list[str], chosen: Sequence[int]) -> _Cells:
    """Take the soft values out of some lines of ids, which keep the ids. Returns the number of the
    line, the class and the value of each cell; what is wrong stays in the line."""
    rows: list[int] = []
    ids: list[int] = []
    shares: list[float] = []
    for number in chosen:
        match = _SPARSE_PARTS.fullmatch(lines[number])
        assert match is not None
        found = _SHARE.findall(match[1])
        given = [float(share) for _, share in found]
        if max(given, default=0) > 1:
            continue
        lines[number] = _SHARE.sub(_take_id, match[1]) + match[2]
        rows += [number] * len(found)
        ids += [int(class_id) for class_id, _ in found]
        shares += given
    return np.array(rows, np.int64), np.array(ids, np.int64), np.array(shares, np.float32)


class _Block(NamedTuple):
    """Dense lines that are right, K of them."""

    lines: npt.NDArray[np.int64]
    """Their numbers in the list, [K]."""
    hard: targets.Dense
    """[K, C]."""
    cells: _Cells
    """Their soft values."""


def _read_dense(values: list[str], lines: Sequence[int], num_classes: int) -> _Block:
    """Those of some lines that have a value for each class, all of which are right."""
    texts, numbers = [], []
    for text, number in zip(values, lines, strict=True):
        if text.count(",") == num_classes - 1 and text.isascii():
            texts.append(target_lines.close_up(text) if " " in text else text)
            numbers.append(number)
    content = np.frombuffer(",".join([*texts, ""]).encode("ascii"), np.uint8)
    ends = np.flatnonzero(content == ord(","))
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])[:-1]
    lengths = ends - starts
    # Most words are 0 or 1: a character minus that of 0, as others wrap around to higher values.
    digits = content[starts] - np.uint8(ord("0"))
    shares = digits.astype(np.float32)
    others = np.flatnonzero((lengths != 1) | (digits > 1))
    shares[others] = _parse_words(content, starts[others], lengths[others])
    table = shares.reshape(len(numbers), num_classes)
    right = ~np.isnan(table).any(axis=1)
    images, table = np.array(numbers, np.int64)[right], table[right]
    hard = np.where(table < 0, np.int8(UNKNOWN), (table >= HALF).astype(np.int8))
    rows, ids = np.nonzero((table > 0) & (table < 1))
    return _Block(images, hard, (images[rows], ids, table[rows, ids]))


def _parse_words(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Words of `content` as numbers from 0 to 1, or UNKNOWN; NaN where they are neither, [K].

    The digits of a number such as 0.75 are an integer; it is divided by a power of ten. Up to
    _EXACT letters both are exact as float64, so their quotient is the nearest one, as of `float`.
    """
    numbers, text = np.full(len(starts), np.nan), content.tobytes()
    numbers[lengths == 0] = UNKNOWN
    pairs = np.flatnonzero(lengths == 2)
    signs, digits = content[starts[pairs]], content[starts[pairs] + 1]
    numbers[pairs[(signs == ord("-")) & (digits == ord("1"))]] = UNKNOWN
    for size in range(3, int(lengths.max(initial=0).clip(max=_LONG)) + 1):
        chosen = np.flatnonzero(lengths == size)
        at, total = starts[chosen], np.zeros(len(chosen))
        is_plain = content[at + 1] == ord(".")
        for k in (0, *range(2, size)) if len(at) else ():
            digit = content[at + k] - np.uint8(ord("0"))  # other letters wrap around to above 9
            is_plain &= digit <= 9
            total = 10 * total + digit
        chosen, total = chosen[is_plain], total[is_plain] / _POWERS[min(size, _EXACT) - 2]
        if size > _EXACT and len(chosen):
            words = [text[i : i + size] for i in starts[chosen].tolist()]
            total = np.fromstring(b",".join(words).decode("ascii"), np.float64, sep=",")
        numbers[chosen] = total
    for k in np.flatnonzero(np.isnan(numbers)).tolist():
        word = text[starts[k] : starts[k] + lengths[k]].decode("ascii")
        numbers[k] = float(word) if _WORD.fullmatch(word) else np.nan
    numbers[~((numbers == UNKNOWN) | ((numbers >= 0) & (numbers <= 1)))] = np.nan
    return numbers.astype(np.float32)


def _explain(text: str, fault: ValueFault) -> ValueFault:
    """The fault of a line that has soft values, with what is wrong with them."""
    if fault.kind == target_lines.FOREIGN:
        return fault
    head, rest = text, ""
    _, sign, example = fault.fix.partition(target_lines.WEIGHT_FIX)
    if is_sparse := target_lines.is_sparse(text):
        match = _SPARSE_PARTS.fullmatch(text.strip().removeprefix(SPARSE))
        assert match is not None
        head, rest = match[1], match[2]
    elif fault.kind != target_lines.OTHER_VALUE:
        return fault
    for place, word in enumerate(head.split(",")):
        class_id, colon, share = word.partition(":") if is_sparse else (str(place), ":", word)
        number = _NUMBER.fullmatch(share.strip())
        is_unknown = not is_sparse and re.fullmatch(_VALUE, share.strip()) and not number
        if not colon or is_unknown or (number and float(number[0]) <= 1):
            continue
        what = f"the value of class {class_id.strip()} is {share.strip()!r}, no number from 0 to 1"
        fix = "write a number from 0 to 1 (0.7 for 70 %), or -1 where nobody looked"
        if is_sparse:
            fix = f"write a number from 0 to 1 (0.7 for 70 %), as in {SPARSE}3:0.7,17"
        fix += sign + example if sign else target_lines.WEIGHT_FIX * (len(share.split()) > 1)
        return fault._replace(kind="value not from 0 to 1", what=what, fix=fix)
    if ":" in rest:
        what = f"a class behind {rest[0]} has a value, but it is unknown or absent"
        fix = f"write classes with a value before {rest[0]}: {SPARSE}3:0.7,17{rest[0]}5"
        return fault._replace(what=what, fix=fix)
    return fault


def _refuse(line: int, text: str, fix: str) -> ValueFault:
    """The fault of a line whose soft values are right, but not allowed."""
    if match := _SHARE.search(re.split("[?!]", text)[0]):
        class_id, word = match[1], match[2]
    else:
        words = [word.strip() for word in text.split(",")]
        place = next(k for k, word in enumerate(words) if word not in ("0", "1", "-1", ""))
        class_id, word = str(place), words[place]
    what = f"the value of class {class_id} is {word!r}, neither 0 nor 1"
    return ValueFault(line, target_lines.OTHER_VALUE, what, fix)


def parse_weights(
    columns: Sequence[str], *, is_train: bool
) -> tuple[Weights | None, list[ValueFault]]:
    """The third column of lines, "" where there is none -> weights [N] with a fault for each wrong
    one; None where all are 1. All of 0 are a fault where a training reads them."""
    if not any(columns):
        return None, []
    weights, faults = np.ones(len(columns), np.float32), []
    for line, text in enumerate(columns):
        word = text.strip()
        is_number = bool(_NUMBER.fullmatch(word)) and float(word) <= _MOST
        weights[line] = float(word) if is_number else 1
        if text and not (is_number and (weights[line] or not re.match("[0.]*[1-9]", word))):
            what = f"the weight of the image is {word!r}, no finite number of at least 0"
            what += ": so small that it would be 0" if is_number else ""
            number = target_lines.read_weight(word.replace(",", "."))
            number = "2" if number in ("", word) else number
            fix = f"write a number such as {number} behind the second tab, or remove the third "
            faults.append(ValueFault(line, "image weight", what, f"{fix}column"))
    if is_train and not weights.any():
        fix = "write 1 for the images that count, or remove the third column"
        faults.append(ValueFault(0, "image weight", "the weight of every image is 0", fix))
    return (None if (weights == 1).all() else weights), faults
