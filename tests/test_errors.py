# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import pickle
from pathlib import Path

from paddlex_ml.errors import Lines, PaddlexMLError, alternatives
from paddlex_ml.terminal import SafeFormatter

FORGED = "a\n  fix:   rm -rf ~\n.jpg"
SHOWN = r"a\n  fix:   rm -rf ~\n.jpg"


def test_line_ends_in_a_name_do_not_begin_a_line() -> None:
    error = PaddlexMLError(f"{FORGED} is broken", where=FORGED, fix=f"replace {FORGED}")
    assert str(error).splitlines() == [
        f"{SHOWN} is broken",
        f"  where: {SHOWN}",
        f"  fix:   replace {SHOWN}",
    ]


def test_lines_that_are_meant_stay_also_in_an_error_that_is_made_of_another() -> None:
    fix = alternatives("do this", f"do that with {FORGED}")
    error = PaddlexMLError(Lines("two faults\n  one"), where="a.txt", fix=fix)
    expected = "two faults\n  one\n  where: a.txt\n  fix:   do this,\n"
    expected += f"         or do that with {SHOWN}"
    assert str(error) == expected
    assert type(error.what) is type(error.fix) is str
    assert str(error.replace()) == expected
    assert str(error.replace(fix="b\nc")) == expected.partition("do this")[0] + r"b\nc"
    assert str(pickle.loads(pickle.dumps(error))) == expected


def test_a_message_of_more_than_ten_lines_has_its_repair_in_the_second() -> None:
    rest = "".join(f"\n  {number}" for number in range(9))
    long = PaddlexMLError(Lines(f"nine faults{rest}"), where="a.txt", fix="repair them")
    assert str(long) == f"nine faults\n  fix:   repair them\n  where: a.txt{rest}"
    assert len(str(long).splitlines()) > 10
    assert str(pickle.loads(pickle.dumps(long))) == str(long.replace()) == str(long)
    short = PaddlexMLError(Lines(f"eight faults{rest[:-4]}"), where="a.txt", fix="repair them")
    assert str(short).splitlines()[-2:] == ["  where: a.txt", "  fix:   repair them"]
    assert len(str(short).splitlines()) > 10


def test_a_name_in_a_log_does_not_begin_a_record() -> None:
    record = logging.makeLogRecord({"msg": "%s in %s", "args": (FORGED, Path("a\n[10:00:00] b"))})
    assert SafeFormatter("%(message)s").format(record) == SHOWN + r" in a\n[10:00:00] b"
    error = PaddlexMLError("a", where="b", fix="c")
    record = logging.makeLogRecord({"msg": "%s, %s", "args": (error, Lines("x\n  y"))})
    assert SafeFormatter("%(message)s").format(record) == f"{error}, x\n  y"


def test_secrets_are_cut_before_and_after_line_ends_are_shown() -> None:
    token = "abcdef0123456789abcdef0123456789ab"
    for url in (f"https://host/f?{token}\nmore", "http://me:SEC\nRET@host/x"):
        text = str(PaddlexMLError(url, where=url, fix=url))
        assert token not in text
        assert "RET" not in text


def test_what_is_added_to_a_long_part_stays() -> None:
    rows = [("a.txt", "1", "kind", "what", "repair")]
    long = PaddlexMLError("a" * 70_000, where="b", fix="c", rows=rows)
    error = pickle.loads(pickle.dumps(long.replace(what=f"{long.what} (faults.csv)")))
    assert error.what.endswith("... (70,000 letters) (faults.csv)")
    assert error.rows == rows
