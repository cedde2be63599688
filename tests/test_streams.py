# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import io
import os
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from paddlex_ml import cli, streams, systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.streams import LastingStream

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import sys
from pathlib import Path
from paddlex_ml import terminal
def body():
    for number in range(20_000):
        print("line", number, "\u732b")
    print("to stderr", file=sys.stderr)
    Path(sys.argv[1]).write_text("done")
sys.exit(terminal.run_script(body))
"""


class Broken(io.StringIO):
    """A stream that takes some letters and then fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        if self.tell() > 3:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "full"), ValueError("closed file")]
)
def test_a_write_that_fails_is_told_once_and_the_others_vanish(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stream = LastingStream(Broken(error), "stdout")
    assert [stream.write("four"), stream.write("more"), stream.write("most")] == [4, 4, 4]
    stream.flush()
    assert stream.getvalue() == "four"
    assert [record.getMessage() for record in caplog.records] == [
        f"stdout cannot be written ({error}): the work goes on without it"
    ]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"\\u732b a"), ("gbk", "\u732b a".encode("gbk")), ("utf-8", "\u732b a".encode())],
)
def test_letters_that_a_terminal_has_not_are_escaped(encoding: str, expected: bytes) -> None:
    raw = io.BytesIO()
    stream = LastingStream(io.TextIOWrapper(raw, encoding=encoding), "stdout")
    stream.write("\u732b a")
    stream.flush()
    assert raw.getvalue() == expected


def test_the_streams_of_before_are_back_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with streams.lasting():
        assert isinstance(sys.stdout, LastingStream)
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("{run} | head -2", 0),
        ("{run} >&-", 0),
        ("{run} >&- 2>&- <&-", 0),
        ("{run} > /dev/full", 0),
        ("{run} > /dev/full 2> /dev/full", 0),
        ("PYTHONIOENCODING=ascii {run} > out.txt", 0),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {run} > out.txt", 0),
    ],
)
def test_a_program_ends_its_work_whatever_becomes_of_its_streams(
    shell: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    line = f"set -o pipefail; {shell}".format(run=f"{sys.executable} script.py done.txt")
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (tmp_path / "done.txt").read_text() == "done"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == code, done.stderr


def test_a_closed_terminal_does_not_end_the_work(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    ours, theirs = pty.openpty()
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "script.py", "done.txt"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.read(ours, 4)
        os.close(ours)
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "done.txt").read_text() == "done"


def test_files_never_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    script = (
        "from paddlex_ml import streams\n"
        "streams.open_closed()\n"
        f"file = open({str(tmp_path / 'number.txt')!r}, 'w')\n"
        "file.write(str(file.fileno()))\n"
    )
    root = Path(__file__).resolve().parent.parent
    (tmp_path / "script.py").write_text(script)
    subprocess.run(
        ["bash", "-c", f"{sys.executable} {tmp_path / 'script.py'} <&- >&- 2>&-"],
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
    )
    assert int((tmp_path / "number.txt").read_text()) > 2


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--list-models"], ["-c", "PP-LCNet_x1_0_ML", "--print-config"]]
)
def test_a_command_that_only_prints_fails_where_its_text_is_lost(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    assert cli.main(arguments) == 2
    assert "the text could not be printed: [Errno 28]" in capsys.readouterr().err


@pytest.mark.story
@pytest.mark.parametrize("option", ["--version", "--list-models", "--help"])
def test_a_closed_stdout_is_told_by_a_command_that_only_prints(option: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m paddlex_ml {option} >&-"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "the text could not be printed" in done.stderr


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a\x1b[31mred\x1b]0;title\x07\n", "a\\u001b[31mred\\u001b]0;title\\u0007\n"),
        ("\u202egpj.exe\u2066 \x9b2J", "\\u202egpj.exe\\u2066 \\u009b2J"),
        ("name\rover", "name\\u000dover"),
        ("\rpredict: 50%|  | 1/2", "\rpredict: 50%|  | 1/2"),
        ("\r          \r", "\r          \r"),
        ("\n\x1b[A", "\n\x1b[A"),
        ("http://me:SECRET@h/x?token=SECRET\n", "http://h/x?token=***\n"),
    ],
)
def test_what_steers_a_terminal_is_text_and_bars_still_move(
    written: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with streams.lasting():
        for stream in (sys.stdout, sys.stderr):
            assert stream.write(written) == len(written)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (shown, shown)


@pytest.mark.parametrize(("is_windows", "number"), [(True, errno.EINVAL), (False, errno.EPIPE)])
def test_a_reader_who_has_left_is_no_loss(
    is_windows: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows says EINVAL of a pipe that nobody reads."""
    monkeypatch.setattr(systems, "IS_WINDOWS", is_windows)
    for each, is_loss in ((number, False), (errno.ENOSPC, True)):
        stream = LastingStream(io.StringIO(), "stdout")
        stream.fault = OSError(each, os.strerror(each))
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(PaddlexMLError) if is_loss else nullcontext():
            streams.refuse_loss()
