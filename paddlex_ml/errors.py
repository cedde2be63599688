# SPDX-License-Identifier: Apache-2.0
"""The exception for what a user can repair, and the one for a run that was asked to stop."""

from __future__ import annotations

from collections.abc import Sequence

from paddlex_ml.safe_text import without_secrets

_LONGEST = 50_000  # letters of each part: what a file says may be in it, however long


class PaddlexMLError(Exception):
    """What is wrong, where it was found, and how to repair it: without the secrets of URLs."""

    def __init__(
        self, what: str, *, where: str, fix: str, rows: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """`rows`: every fault that it stands for, as (file, line, kind, what, repair)."""
        what, where, fix = (_cut(without_secrets(text)) for text in (what, where, fix))
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what = what
        self.where = where
        self.fix = fix
        self.rows = rows

    def __reduce__(self) -> tuple[object, ...]:
        # Pickle rebuilds an exception from `args`, here the joined message. Keep the three parts,
        # so that an error from a worker process arrives with all of them.
        return _rebuild, (self.what, self.where, self.fix)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} letters)"


def _rebuild(what: str, where: str, fix: str) -> PaddlexMLError:
    return PaddlexMLError(what, where=where, fix=fix)


class Stopped(BaseException):
    """The user or the system asked the run to stop, and its state is saved.

    A BaseException like KeyboardInterrupt, so that no `except Exception` catches it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
