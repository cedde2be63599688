# SPDX-License-Identifier: Apache-2.0
"""From a bare folder to a report, with one command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml import cli, command_line, next_command, program
from paddlex_ml.config import load, shipped

FAST = [
    *("Global.device=cpu", "Train.epochs_iters=2", "Train.image_size=32", "Train.num_workers=0"),
    *("Train.warmup_steps=0", "Train.pretrain_weight_path=null", "Evaluate.bootstrap=20"),
]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images in folders of two classes, in the working folder."""
    rng = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 99, (40, 40, 3)).astype(np.uint8)
        pixels[..., number % 2] += 120
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def words(*overrides: str) -> list[str]:
    return [word for text in overrides for word in ("-o", text)]


def read(name: str) -> dict[str, object]:
    result: dict[str, object] = json.loads(Path("output", name).read_text("utf-8"))
    return result


def test_one_command_leads_from_photographs_to_a_report(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(photos.rglob("*"))
    assert cli.main(["--data", "photos", *words("Global.mode=train", *FAST)]) == 0
    told = capsys.readouterr()
    assert "photos: ImageFolder: folders cat, dog, 30 images, 2 classes: cat, dog" in told.err
    assert "nothing divides the images: 20 % become val.txt" in told.err
    assert (
        "options for 24 training images: -o Train.save_interval=25 -o Train.batch_size=16 ("
        in told.err
    )
    assert sorted(photos.rglob("*")) == before
    assert read("check_dataset_result.json")["check_pass"]
    assert read("train_result.json")["done_flag"]
    assert read("evaluate_result.json")["report"] == "evaluate/report.html"
    assert Path("output/evaluate/report.html").is_file()
    saved = load.load(Path("output/config.yaml"), ["Global.mode=evaluate"]).config
    assert saved.Global.dataset_dir == Path("output/dataset").absolute()
    assert saved.CheckDataset.convert.src_dataset_type is None
    assert saved.Train.batch_size == 16
    follow = told.out.splitlines()[-1].removeprefix(f"next: {program.command()} ")
    assert cli.main(shlex.split(follow)) == 0


def test_the_command_after_a_check_trains_what_the_check_has_made(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data", "photos", *words(*FAST)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "-o Global.dataset_dir=output/dataset" in last
    assert "CheckDataset" not in last
    assert "-o Train.save_interval=25 -o Train.batch_size=16" in last
    assert cli.main(shlex.split(last.removeprefix(f"next: {program.command()} "))) == 0
    capsys.readouterr()
    # Once more from the photographs, into the folder of the training.
    assert cli.main(["--data", "photos", *words("Global.mode=train", *FAST)]) == 2
    assert "the output folder holds another training" in capsys.readouterr().err


def test_a_check_and_the_command_after_it_do_without_paddle(photos: Path) -> None:
    code = (
        "import sys; from paddlex_ml import cli; code = cli.main(['--data', 'photos']); "
        "print(code, 'paddle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    follow, told = done.stdout.splitlines()[-2:]
    assert follow.startswith("next: ")
    assert told == "0 False"


def test_the_options_for_the_size_can_be_turned_off(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data", "photos", *words("Train.auto=false")]) == 0
    assert "Train." not in capsys.readouterr().out.splitlines()[-1].replace("Train.auto=false", "")


def test_faults_of_the_source_are_told_before_anything_is_trained(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cat" / "0.png").write_bytes(b"nothing")
    assert cli.main(["--data", "photos", *words("Global.mode=train", *FAST)]) == 2
    assert "photos/cat/0.png" in capsys.readouterr().err.replace("images", "photos")
    assert read("train_result.json")["done_flag"] is False
    assert not Path("output/dataset/train.txt").exists()


def test_a_faulty_source_leaves_the_data_set_of_an_earlier_one(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "cat" / "0.png").write_bytes(b"nothing")
    assert cli.main(["--data", "photos"]) == 0
    assert cli.main(["--data", "other"]) == 2
    assert "not an image" in capsys.readouterr().err
    assert os.readlink("output/dataset/images") == str(photos)


def test_a_format_that_is_named_is_read_beside_the_source_too(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    rows = [f"{path},{'tiger' if path.startswith('cat') else 'wolf'}\n" for path in paths]
    (photos / "labels.csv").write_text("file,tags\n" + "".join(rows))
    lines = [json.dumps({"path": path, "labels": ["animal"]}) + "\n" for path in paths]
    (photos / "labels.jsonl").write_text("".join(lines))
    before = sorted(photos.rglob("*"))
    assert cli.main(["--data", "photos"]) == 2
    fix = "-o CheckDataset.convert.src_dataset_type=CSV or "
    assert fix in capsys.readouterr().err
    named = words("CheckDataset.convert.src_dataset_type=CSV")
    assert cli.main(["--data", "photos", *named]) == 0
    assert "photos: CSV, 30 images, 2 classes: tiger, wolf" in capsys.readouterr().err
    assert Path("output/dataset/label.txt").read_text() == "0 tiger\n1 wolf\n"
    assert sorted(photos.rglob("*")) == before


def test_the_output_beside_the_images_is_no_part_of_the_source(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert cli.main(["--data", "."]) == 0
        told = capsys.readouterr().err
        assert ".: ImageFolder: folders cat, dog, 30 images, 2 classes: cat, dog" in told
        assert "folders with the results of a command are no source: output" in told
    rows = [f"{path.name},{path.parent.name}\n" for path in photos.rglob("*.png")]
    (tmp_path / "labels.csv").write_text("file,tags\n" + "".join(rows))
    for _ in range(2):
        assert cli.main(["--data", "labels.csv"]) == 0
        assert "images: 30 seen" in capsys.readouterr().err


def test_the_data_set_of_a_training_gets_no_other_images(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "other")
    lists = Path("output/dataset/train.txt"), Path("output/dataset/val.txt")
    assert cli.main(["--data", "photos"]) == 0
    before = [path.read_bytes() for path in lists]
    weights = Path("output/best_model/best_model.pdparams")
    weights.parent.mkdir()
    weights.touch()
    capsys.readouterr()
    assert cli.main(["--data", "other"]) == 2  # the lists are the same, the images may not be
    assert "would get other images or labels" in (told := capsys.readouterr().err)
    assert "-o Global.output=output_2" in told
    assert os.readlink("output/dataset/images") == str(photos)
    assert cli.main(["--data", "photos"]) == 0  # nothing changes
    (photos / "cat" / "0.png").unlink()
    assert cli.main(["--data", "photos"]) == 2
    assert [path.read_bytes() for path in lists] == before
    assert cli.main(["--data", "photos", *words("Train.rescore_best=true")]) == 0
    assert [path.read_bytes() for path in lists] != before


def test_lists_of_ours_are_repaired_beside_the_source(photos: Path) -> None:
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    (photos / "label.txt").write_text("0 cat\n1 dog\n")
    lines = [f"{path}\t{'1,0' if path.startswith('cat') else '0,1'}\n" for path in paths]
    (photos / "train.txt").write_text("".join(lines[::2]))
    (photos / "val.txt").write_text("".join(lines[1::2]))
    (photos / paths[0]).write_bytes(b"nothing")
    before = sorted(photos.rglob("*"))
    assert cli.main(["--data", "photos", *words("CheckDataset.drop=[broken]")]) == 0
    assert sorted(photos.rglob("*")) == before
    assert len(Path("output/dataset/train.txt").read_text().splitlines()) == 14


def test_processes_of_a_launcher_are_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    assert cli.main(["--data", "photos", *words("Global.mode=train", *FAST)]) == 2
    assert "-o Global.mode=check_dataset in one process first" in capsys.readouterr().err
    assert not Path("output/dataset").exists()


def test_two_data_sets_and_a_demo_as_json_are_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data", "photos", *words("Global.dataset_dir=other")]) == 2
    assert "both name a data set" in capsys.readouterr().err
    assert cli.main(["--demo", "drawn", "--json"]) == 2
    assert "leave the other options" in capsys.readouterr().err
    assert not Path("drawn").exists()


def test_neither_a_file_nor_data_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-o", "Global.mode=train"]) == 2
    assert "required: -c/--config, --data, --demo" in capsys.readouterr().err


def repair_of(mode: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words of the command that answers a mode on the bare folder."""
    capsys.readouterr()
    assert cli.main(["--data", "photos", *words(f"Global.mode={mode}")]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert message.count("error: ") == 1
    command = message.split("fix:")[1].strip().splitlines()[0]
    assert command.startswith(program.command())
    return shlex.split(command.removeprefix(program.command()))


def test_other_modes_on_a_bare_folder_name_the_command_that_comes_first(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["-c", "PP-LCNet_x1_0_ML", "-o"]
    assert repair_of("plan", capsys) == [*start, "Global.mode=check_dataset", "--data", "photos"]
    training = [*start, "Global.mode=train", "--data", "photos"]
    for mode in ("evaluate", "export", "benchmark", "predict"):
        assert repair_of(mode, capsys) == training
    assert not Path("output", ".evaluate.lock").exists()

    assert cli.main(repair_of("plan", capsys)) == 0
    plan = repair_of("plan", capsys)
    assert plan == [*start, "Global.mode=plan", "--data", os.path.join("output", "dataset")]
    arguments = command_line.parse(plan)
    config = load.load(shipped.find(arguments.config)[0], arguments.override).config
    assert next_command.find_earlier(config, arguments.config, arguments.override) is None

    assert cli.main([*training, *words(*FAST)]) == 0
    saved = ["-c", os.path.join("output", "config.yaml"), "-o"]
    assert repair_of("benchmark", capsys) == [*saved, "Global.mode=benchmark"]
    assert cli.main(repair_of("evaluate", capsys)) == 0
    assert cli.main(repair_of("predict", capsys)) == 0
    assert read("predict_result.json")["num_images"] == 30
    assert cli.main(["--data", "photos", *words("Global.mode=export")]) == 0


@pytest.mark.parametrize(("word", "option"), [("sweep", "--sweep"), ("reproduce", "--reproduce")])
def test_what_an_option_does_is_no_mode(
    photos: Path, word: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data", "photos", *words(f"Global.mode={word}")]) == 2
    assert f" {option} " in capsys.readouterr().err.split("fix:")[1]
