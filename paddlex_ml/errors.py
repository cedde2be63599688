# SPDX-License-Identifier: Apache-2.0
"""The exception for what a user can repair, and the one for a run that was asked to stop."""

from __future__ import annotations

from collections.abc import Sequence

from paddlex_ml.safe_text import one_line, without_secrets

_LONGEST = 50_000  # letters of each part: what a file says may be in it, however long
_MOST_LINES = 8  # with those of where and fix: ten; of more, a reader sees the first and the last
_TAIL = 10_000  # letters that may be added to a part that was cut


class Lines(str):
    """A part of an error with several lines. Names in it are put through `safe_text.one_line`."""

    __slots__ = ()


def alternatives(*fixes: str) -> Lines:
    """Several repairs of which one is enough, one below the other."""
    each = (fix if isinstance(fix, Lines) else one_line(fix) for fix in fixes)
    return Lines(",\n         or ".join(each))


class PaddlexMLError(Exception):
    """What is wrong, where it was found, and how to repair it: without the secrets of URLs.

    In a message of more than ten lines the repair follows the first line.

    Line ends are written as `\\n`, unless the part is of the type Lines: a file may be named
    "a\\n  fix:   rm -rf ~".
    """

    def __init__(
        self, what: str, *, where: str, fix: str, rows: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """`rows`: every fault that it stands for, as (file, line, kind, what, repair)."""
        what, where, fix = map(_clean, (what, where, fix))
        point, _, more = what.partition("\n")
        if what.count("\n") + fix.count("\n") > _MOST_LINES:
            super().__init__(f"{point}\n  fix:   {fix}\n  where: {where}\n{more}")
        else:
            super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what = str(what)  # not Lines, which writers of JSON do not know
        self.where = str(where)
        self.fix = str(fix)
        self.rows = rows

    def replace(
        self, *, what: str | None = None, where: str | None = None, fix: str | None = None
    ) -> PaddlexMLError:
        """The same error with another part."""
        return PaddlexMLError(
            Lines(self.what) if what is None else what,
            where=self.where if where is None else where,
            fix=Lines(self.fix) if fix is None else fix,
            rows=self.rows,
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Pickle rebuilds an exception from `args`, here the joined message. Keep the three parts,
        # so that an error from a worker process arrives with all of them.
        return _rebuild, (Lines(self.what), self.where, Lines(self.fix), self.rows)


def _clean(part: str) -> Lines:
    text = without_secrets(part)
    if not isinstance(part, Lines):
        text = without_secrets(one_line(text))  # again: a password may have a line end in it
    is_long = len(text) > _LONGEST + _TAIL
    return Lines(f"{text[:_LONGEST]}... ({len(text):,} letters)" if is_long else text)


def _rebuild(what: str, where: str, fix: str, rows: Sequence[tuple[str, ...]]) -> PaddlexMLError:
    return PaddlexMLError(what, where=where, fix=fix, rows=rows)


class Stopped(BaseException):
    """The user or the system asked the run to stop, and its state is saved.

    A BaseException like KeyboardInterrupt, so that no `except Exception` catches it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
