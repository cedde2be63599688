# SPDX-License-Identifier: Apache-2.0
"""docs/extending.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.story

ROOT = Path(__file__).resolve().parent.parent
YAMLS = Path("configs") / "modules" / "image_multilabel_classification"


@pytest.mark.heavy
def test_a_seventh_model_is_one_file_one_row_and_one_yaml(
    toy: Path, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    copy = tmp_path / "project"
    for folder in ("paddlex_ml", "configs"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copy(ROOT / "main.py", copy)
    # All runs without numba, which would compile the kernels of the copy: half a minute.
    (copy / "numba.py").write_text("raise ImportError('left out')\n", encoding="utf-8")
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|bash)\n(.*?)```", text, re.DOTALL)
    code, row, yaml_row, write, train = blocks

    (copy / "paddlex_ml/models/resnet18.py").write_text(code, encoding="utf-8")
    zoo = copy / "paddlex_ml/models/zoo.py"
    before = zoo.read_text(encoding="utf-8")
    after = before.replace("MODEL_SPECS = {\n", f"MODEL_SPECS = {{\n{row}").replace(
        "pp_lcnet, resnet\n", "pp_lcnet, resnet, resnet18\n"
    )
    assert after.count("resnet18") == 3
    zoo.write_text(after, encoding="utf-8")
    yaml_table = copy / "paddlex_ml/config/write_yaml.py"
    before = yaml_table.read_text(encoding="utf-8")
    head = "MODELS: dict[str, tuple[str, dict[str, Any]]] = {\n"
    yaml_table.write_text(before.replace(head, head + yaml_row), encoding="utf-8")
    assert write == "python -m paddlex_ml.config.write_yaml\n"
    subprocess.run([sys.executable, *write.split()[1:]], cwd=copy, check=True)

    assert train.startswith("python main.py -c ResNet18_ML -o Global.mode=train")
    _, _, *overrides = command("train", toy, tmp_path / "out", "Train.epochs_iters=1")
    done = subprocess.run(
        [sys.executable, "main.py", "-c", "ResNet18_ML", *overrides],
        cwd=copy, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "train_result.json").read_text(encoding="utf-8"))
    assert result["model_name"] == "ResNet18_ML"
    assert (copy / YAMLS / "ResNet18_ML.yaml").is_file()
