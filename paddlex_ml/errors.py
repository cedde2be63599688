# SPDX-License-Identifier: Apache-2.0
"""The exception for what a user can repair, and the one for a run that was asked to end."""

from __future__ import annotations


class PaddlexMLError(Exception):
    """What is wrong, where it was found, and how to repair it."""

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what = what
        self.where = where
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from `args`, which is the joined message: keep the parts, so that
        # an error raised in a worker process arrives whole.
        return _rebuild, (self.what, self.where, self.fix)


def _rebuild(what: str, where: str, fix: str) -> PaddlexMLError:
    return PaddlexMLError(what, where=where, fix=fix)


class Stopped(BaseException):
    """The user, or the system, asked the run to end, and what had to be saved was saved.

    Like KeyboardInterrupt no Exception: no `except Exception` on the way up may swallow it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
