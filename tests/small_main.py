# SPDX-License-Identifier: Apache-2.0
"""main.py whose models have a narrow decoder, and PP-LCNet one block a stage.

A training of few steps spends most of its time on what each layer costs at the start and the end:
graphs for the export, checkpoints. To load numba is a second of five, and all runs without: it is
left out unless WITH_NUMBA is in the environment.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "ml_decoder": {"WIDTH": 64, "FEED_FORWARD": 128},
    "pp_lcnet": {
        "STAGES": {
            "blocks2": [(3, 16, 32, 1, False)],
            "blocks3": [(3, 32, 64, 2, False)],
            "blocks4": [(3, 64, 128, 2, False)],
            "blocks5": [(3, 128, 256, 2, False)],
            "blocks6": [(5, 256, 512, 2, True)],
        }
    },
}
"""Module of paddlex_ml.models -> its sizes in a small model."""


class SmallModels(MetaPathFinder):
    """Makes the models small when they are imported: no sooner, since they import Paddle."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        if package != "paddlex_ml.models" or module not in SMALL:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            vars(module).update(SMALL[module.__name__.rpartition(".")[2]])

        loader.exec_module = execute_and_change
        return spec


if __name__ in ("__main__", "__mp_main__"):  # worker processes import this file, too
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.meta_path.insert(0, SmallModels())
    if "WITH_NUMBA" not in os.environ:
        sys.modules["numba"] = None  # type: ignore[assignment]  # as if it were not installed

if __name__ == "__main__":
    from paddlex_ml.__main__ import run

    run()
