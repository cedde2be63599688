# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml import cli, program


@pytest.mark.parametrize(
    ("arguments", "repair"),
    [
        (["--overide", "Global.mode=train", "-c", "M"], "{} --override Global.mode=train -c M"),
        (["--data=x", "--dryrun", "--sweeps=a=1"], "{} --data=x --dry-run --sweep=a=1"),
        (["--list"], "{} --list-models"),
        (["--verison"], "{} --version"),
        (["-c"], "-c PP-LCNet_x1_0_ML"),
        (["-c", "M", "-o"], "-o Global.mode=train"),
        (["-o", "--seeds=two"], "--seeds 3"),
        (["-o", "Global.mode=check_dataset"],
         "{} -c PP-LCNet_x1_0_ML -o Global.mode=check_dataset"),
        (["-o", "Global.mode=evaluate", "--json"],
         "{} -c output/config.yaml -o Global.mode=evaluate --json"),
        ([], "{} --help"),
        (["-c", "M", "--no-such"], "{} --help"),
        (["-c", "clip"], "-c CLIP_vit_base_patch16_448_ML"),
        (["-c", "b6"], "-c PP-HGNetV2-B6_ML"),
    ],
)  # fmt: skip
def test_a_misspelt_option_and_one_without_its_value_have_a_repair_to_paste(
    arguments: list[str],
    repair: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    fix = capsys.readouterr().err.partition("  fix:   ")[2].splitlines()[0]
    assert fix.partition(", or ")[0] == repair.format(program.command())
