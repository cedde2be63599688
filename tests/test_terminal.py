# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings

import pytest

from paddlex_ml import terminal
from paddlex_ml.errors import PaddlexMLError, Stopped


def test_what_a_user_can_repair_is_printed_without_a_traceback(capsys):
    report = terminal.print_error(PaddlexMLError("it is broken", where="here", fix="mend it"))
    assert report == (2, "PaddlexMLError", "it is broken\n  where: here\n  fix:   mend it")
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {report.message}\n")


def test_what_a_file_says_cannot_flood_the_terminal():
    error = PaddlexMLError("x" * 70_000, where="y" * 20_000, fix="z")
    assert error.what == "x" * 50_000 + "... (70,000 letters)"
    assert (error.where, error.fix) == ("y" * 20_000, "z")
    assert len(str(error)) < 71_000


def test_a_bug_of_ours_keeps_its_traceback(capsys):
    try:
        dict[str, int]()["absent"]
    except KeyError as error:
        report = terminal.print_error(error)
    assert report.code == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "this is a bug in paddlex_ml" in err


def test_a_full_disk_is_an_error_with_a_repair(capsys):
    report = terminal.print_error(OSError(28, "No space left on device", "/somewhere/file"))
    assert report.code == 2
    assert "where: /somewhere/file" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped(signal.SIGINT)])
def test_a_stop_by_the_user_has_its_own_code_and_hint(capsys, error):
    assert terminal.print_error(error, "; go on with this").code == 130
    assert capsys.readouterr().err == "stopped by SIGINT; go on with this\n"


def test_a_script_returns_the_exit_code(capsys):
    def refuse() -> None:
        raise PaddlexMLError("no", where="here", fix="this")

    assert terminal.run_script(lambda: print("done")) == 0
    assert terminal.run_script(refuse) == 2
    assert capsys.readouterr().out == "done\n"


def test_sigterm_ends_a_script_with_its_code(capsys):
    def wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # the signal comes first

    assert terminal.run_script(wait) == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err


def test_bad_arguments_are_an_error_like_any_other():
    parser = terminal.Parser(prog="tool")
    with pytest.raises(PaddlexMLError, match="unrecognized arguments: --no") as caught:
        parser.parse_args(["--no"])
    assert caught.value.fix == "tool --help"


def tell(monkeypatch, caplog, seconds: float, *, always: bool = True) -> list[str]:
    """The lines about 100 pieces of work of so many seconds each."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO), terminal.progress("read files", always=always) as progress:
        for done in range(101):
            progress(done, 100)
            progress(done, 100)
            now += seconds
    return caplog.messages


def test_progress_in_a_log_is_a_line_a_tenth_with_the_time_left(caplog, monkeypatch):
    lines = tell(monkeypatch, caplog, 1)
    assert lines[:2] == ["read files: 2 of 100, 01:38 left", "read files: 10 of 100, 01:30 left"]
    assert len(lines) == 11
    assert lines[-1] == "read files: 100 of 100"


@pytest.mark.parametrize(("seconds", "count"), [(0.01, 1), (0.05, 3), (10, 40)])
def test_lines_of_a_log_come_neither_too_fast_nor_too_rarely(caplog, monkeypatch, seconds, count):
    lines = tell(monkeypatch, caplog, seconds)
    assert len(lines) == count
    assert lines[-1] == "read files: 100 of 100"


def test_short_work_that_comes_again_and_again_is_not_told(caplog, monkeypatch):
    assert tell(monkeypatch, caplog, 0.01, always=False) == []
    assert len(tell(monkeypatch, caplog, 1, always=False)) == 11


def test_progress_of_nothing_is_done(caplog):
    with caplog.at_level(logging.INFO), terminal.progress("read files") as progress:
        progress(0, 0)
    assert caplog.messages == ["read files: 0 of 0"]


def test_a_terminal_gets_a_bar_with_counts(monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    with terminal.progress("read files") as progress:
        progress(20, 40)
        time.sleep(0.6)  # a bar that would be gone at once is not drawn
        progress(40, 40)
    err = capsys.readouterr().err
    assert "read files" in err
    assert "40/40" in err


def test_a_warning_of_filelock_that_nobody_can_act_on_is_left_out() -> None:
    text = "flock not supported on this filesystem, falling back to SoftFileLock"
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with terminal.session():
            for module in ("filelock._native._unix", "another"):
                warnings.warn_explicit(text, UserWarning, f"{module}.py", 1, module)
    assert [warning.filename for warning in shown] == ["another.py"]
