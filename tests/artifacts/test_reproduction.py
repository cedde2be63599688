# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.artifacts import reproduction
from paddlex_ml.artifacts.reproduction import BestScore, ChangedCondition, Reproduction

CHANGED = ChangedCondition(name="numpy", before="1", now="2", decides=True, meaning="digits")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    best = BestScore(map=0.5, epoch=2, weights="ema", interval=(0.4, 0.6))
    content = Reproduction(
        outcome="begun", run="/a", run_id="1", changed=[CHANGED], unknown=["git"], before=best,
        epochs_before=3,
    )  # fmt: skip
    reproduction.write(tmp_path / "reproduction.json", content)
    assert reproduction.read(tmp_path / "reproduction.json") == content


@pytest.mark.parametrize("text", ["", "[]", '{"outcome": "perhaps"}'])
def test_another_thing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reproduction.json").write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        reproduction.read(tmp_path / "reproduction.json")
