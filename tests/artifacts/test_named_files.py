# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from paddlex_ml.artifacts import named_files


def test_nothing_is_restored_beside_the_folder_of_all_others() -> None:
    assert not named_files.may_be_restored(Path.cwd().anchor)
    assert not named_files.may_be_restored(f"{Path.cwd().anchor}no such weights.pdparams")
