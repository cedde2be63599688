# SPDX-License-Identifier: Apache-2.0
"""The exception for what a user can repair, and the one for a run that was asked to stop."""

from __future__ import annotations

from collections.abc import Sequence


class PaddlexMLError(Exception):
    """What is wrong, where it was found, and how to repair it."""

    def __init__(
        self, what: str, *, where: str, fix: str, rows: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """`rows`: every fault that it stands for, as (file, line, kind, what, repair)."""
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what = what
        self.where = where
        self.fix = fix
        self.rows = rows

    def __reduce__(self) -> tuple[object, ...]:
        # Pickle rebuilds an exception from `args`, here the joined message. Keep the three parts,
        # so that an error from a worker process arrives with all of them.
        return _rebuild, (self.what, self.where, self.fix)


def _rebuild(what: str, where: str, fix: str) -> PaddlexMLError:
    return PaddlexMLError(what, where=where, fix=fix)


class Stopped(BaseException):
    """The user or the system asked the run to stop, and its state is saved.

    A BaseException like KeyboardInterrupt, so that no `except Exception` catches it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
