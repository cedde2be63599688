# SPDX-License-Identifier: Apache-2.0
"""What the start of a command imports, and how its two spellings end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "['-c', 'PP-LCNet_x1_0_ML', '--print-config']",
        "['-c', 'PP-LCNet_x1_0_ML', '-o', 'Global.mode=train', 'Train.batch_size=0']",
        "['-c', 'PP-LCNet_x1_0_ML', '-o', 'Global.dataset_dir=none']",
        "['--help']",
    ],
)
def test_paddle_is_not_imported_without_need(arguments: str) -> None:
    code = f"""
import sys
from paddlex_ml.cli import main
try:
    code = main({arguments})
except SystemExit as stop:
    code = stop.code
print("code", code, "paddle" in sys.modules, file=sys.stderr)
"""
    expected = 2 if "mode=train" in arguments or "dataset_dir" in arguments else 0
    assert python(code).stderr.splitlines()[-1] == f"code {expected} False"


def test_main_py_and_the_module_exit_with_the_code_of_the_cli() -> None:
    for start in ([str(ROOT / "main.py")], ["-m", "paddlex_ml"]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *start, "-c", "none"],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("error: the configuration none does not exist\n")


def test_the_start_imports_neither_numpy_whose_threads_are_set_later_nor_what_help_needs_not() -> (
    None
):
    late = ("numpy", "tqdm", "psutil", "paddlex_ml.engines.named_paths")
    code = f"import sys, paddlex_ml.cli; print({{*{late}}} & {{*sys.modules}}, file=sys.stderr)"
    assert python(code).stderr == "set()\n"
