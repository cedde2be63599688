# SPDX-License-Identifier: Apache-2.0
"""All commands as on Windows and on macOS, as far as Linux can look like them.

tests/other_system.py takes away what these systems lack, and refuses what they refuse.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import other_system
from tests.running import ENVIRONMENT

Command = Callable[..., list[str]]

pytestmark = [
    pytest.mark.story,
    pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that looks like another one"),
]

ALL = """
import json, sys
from tests.small_main import SmallModels
sys.meta_path.insert(0, SmallModels())
sys.modules["numba"] = None
if __name__ == "__main__":
    from paddlex_ml import cli, systems
    assert systems.{constant} and not systems.IS_LINUX
    if systems.IS_WINDOWS:
        import paddle, paddle.inference
        def take(function):  # Paddle's C++ on Windows
            def call(*arguments, **keys):
                assert all(a.isascii() for a in arguments if isinstance(a, str)), arguments
                return function(*arguments, **keys)
            return call
        paddle.jit.save, paddle.jit.load = take(paddle.jit.save), take(paddle.jit.load)
        paddle.inference.Config = take(paddle.inference.Config)
    for code, arguments in json.load(open(sys.argv[1])):
        found = cli.main(arguments)
        assert found == code, (found, arguments)
"""


@pytest.fixture
def run_as(tmp_path: Path) -> Callable[..., str]:
    """Runs commands, each with its exit code, as a system and with a console; returns what was
    said."""

    def run(system: str, console: str, commands: list[tuple[int, list[str]]]) -> str:
        constant = {"windows": "IS_WINDOWS", "macos": "IS_MACOS"}[system]
        script, listed, start = tmp_path / "all.py", tmp_path / "all.json", tmp_path / "start"
        script.write_text(ALL.replace("{constant}", constant), encoding="utf-8")
        listed.write_text(json.dumps(commands), encoding="utf-8")
        start.mkdir()
        (start / "sitecustomize.py").write_text("from tests import other_system as o; o.enter()")
        root = str(Path(__file__).resolve().parents[1])
        own = {
            other_system.VARIABLE: system,
            "PYTHONPATH": os.pathsep.join([str(start), root]),
            "PYTHONIOENCODING": f"{console}:strict",
        }
        done = subprocess.run(
            [sys.executable, str(script), str(listed)],
            cwd=tmp_path,
            env=ENVIRONMENT | own,
            capture_output=True,
            encoding=console,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Traceback" not in said
        assert "does not support it" not in said  # a step that is left out is told
        assert "cannot be locked" not in said
        return said

    return run


def copy_set(toy: Path, root: Path, spell: Callable[[str], str], *, on_disk: str) -> Path:
    """The data set with Chinese classes; an image whose name the list spells in another way."""
    shutil.copytree(toy, root)
    names = [line.split()[0] for line in (root / "label.txt").read_text().splitlines()]
    classes = dict(zip(names, ("猫", "狗 ┃ 犬", "café"), strict=True))
    text = "".join(f"{number} {name}\n" for number, name in classes.items())
    (root / "label.txt").write_text(text, encoding="utf-8")
    (root / "images" / "train_0.png").rename(root / "images" / on_disk)
    listed = (root / "train.txt").read_text().replace("train_0.png", spell(on_disk))
    (root / "train.txt").write_text(listed, encoding="utf-8")
    return root


def write_commands(
    command: Command, data: Path, output: Path, *more: str
) -> list[tuple[int, list[str]]]:
    """Check, train, go on, replace, evaluate, export, predict twice; then what is refused."""
    workers, epochs = "Train.num_workers=2", "Train.epochs_iters="
    images = f"Predict.input={data}/images", "Predict.threshold=0.01"
    done = [
        command("check_dataset", data, output, "CheckDataset.split.enable=true",
                "CheckDataset.split.train_percent=60", "CheckDataset.split.val_percent=40"),
        command("train", data, output, workers, f"{epochs}1", *more),
        command("train", data, output, workers, f"{epochs}2", "Train.resume_path=auto", *more),
        command("train", data, output, f"{epochs}1", "Global.overwrite=true", *more),
        command("evaluate", data, output, workers),
        command("export", data, output),
        command("predict", None, output, *images),
        command("predict", None, output, *images),
    ]  # fmt: skip
    refused = command("train", data, output.with_name("two"), "Global.device=cpu:0,1")
    return [*((0, each) for each in done), (2, refused)]


def check(output: Path, said: str) -> None:
    for mode in ("check_dataset", "train", "evaluate", "export", "predict"):
        result = json.loads((output / f"{mode}_result.json").read_text("utf-8"))
        assert result["done_flag"], mode
    assert sorted(os.listdir(output / "best_model" / "inference")) == [
        *("inference.json", "inference.pdiparams", "inference.yml")
    ]
    left = [path for path in output.parent.rglob("*") if path.name.endswith((".new", ".old"))]
    assert left == []
    assert "Paddle trains in several processes on Linux alone" in said
    assert "fix:   -o Global.device=cpu -o Train.dist_ips=null" in said
    assert (output / "predict" / "predictions.bak" / "predictions.json").is_file()
    assert "狗 ┃ 犬" in (output / "predict" / "predictions.csv").read_text("utf-8-sig")


def test_as_on_windows_with_a_western_console(
    run_as: Callable[..., str], toy: Path, command: Command, tmp_path: Path
) -> None:
    data = copy_set(toy, tmp_path / "data", str.upper, on_disk="Train 0.png")
    output = tmp_path / "小胖" / "out"
    commands = write_commands(command, data, output)
    commands.append((0, command("export", data, output, "Export.format=pdmodel")))
    cached = command("train", data, tmp_path / "kept", "Train.cache=ram")
    photos, beside = tmp_path / "photos", tmp_path / "beside"
    for name, list_ in (("猫", "train"), ("狗", "val")):
        shutil.copytree(toy / "images", photos / name, ignore=lambda _, names, own=list_: [
            each for each in names if not each.startswith(own)
        ])  # fmt: skip
    bare = ["--data", str(photos), "-o", f"Global.output={beside}"]
    said = run_as("windows", "cp1252", [*commands, (2, cached), (0, bare), (0, bare)])
    check(output, said)
    assert os.path.samefile(beside / "dataset" / "images", photos)  # a junction stands there
    assert "this operating system cannot share kept images" in said
    assert r"\u732b" in said  # 猫: the console has no such letter
    assert (data / "train.txt.bak").is_file()


def test_as_on_macos_with_a_chinese_console(
    run_as: Callable[..., str], toy: Path, command: Command, tmp_path: Path
) -> None:
    """The names on the disk are decomposed, as older disks of macOS have them."""
    decomposed = unicodedata.normalize("NFD", "Bébé 图.png")
    data = copy_set(
        toy,
        tmp_path / "data",
        lambda name: unicodedata.normalize("NFC", name).upper(),
        on_disk=decomposed,
    )
    said = run_as(
        "macos", "gbk", write_commands(command, data, tmp_path / "out", "Train.cache=ram")
    )
    check(tmp_path / "out", said)
    assert "猫" in said
