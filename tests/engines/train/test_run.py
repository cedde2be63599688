# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml.artifacts import checkpoint, saved_scores, weights
from paddlex_ml.config import load
from paddlex_ml.data import annotation, transforms
from paddlex_ml.data.preprocess import standard
from paddlex_ml.models import zoo
from paddlex_ml.training.meter import GUIDE

Run = Callable[..., tuple[int, str]]
Numbers = Callable[[Path], list[dict[str, str]]]
PARTS = ("pdparams", "pdema", "pdopt", "pdstates")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_result(output: Path) -> Any:
    return json.loads((output / "train_result.json").read_text(encoding="utf-8"))


def test_the_output_holds_the_documented_files_and_no_other(toy_run: Path) -> None:
    names = ("best_model", "latest", "epoch_1", "epoch_2")
    expected = {f"{name}/{name}.{part}" for name in names for part in PARTS}
    expected |= {"train_result.json", "config.yaml", "train.log", "label_dict.txt"}
    expected |= {
        "run.json",
        "metrics.csv",
        "curves.png",
        "val_scores.npz",
        "best_model/MODEL_CARD.md",
    }
    expected |= {".train.lock", ".paddlex_ml.lock", "best_model/.paddlex_ml.lock"}
    expected |= {
        f"best_model/inference/{name}"
        for name in ("inference.json", "inference.pdiparams", "inference.yml")
    }
    assert files(toy_run) == expected


def test_the_scores_of_the_best_model_are_kept_in_the_order_of_the_list(
    toy_run: Path, toy: Path
) -> None:
    result, val = read_result(toy_run), annotation.read(toy).val
    summary = saved_scores.read_summary(toy_run / "val_scores.npz")
    scores, targets = saved_scores.read_table(toy_run / "val_scores.npz")
    assert summary.note.val_digest == result["run"]["digests"]["val.txt"] == annotation.digest(val)
    assert summary.note.map == pytest.approx(result["metrics"]["MultiLabelMAP"], abs=1e-12)
    best = result["models"]["best"]
    assert (summary.note.epoch, summary.note.weights) == (best["epoch"], best["weights"])
    assert (targets == val.targets).all()
    assert scores.shape == targets.shape


def test_every_path_of_the_result_exists(toy_run: Path) -> None:
    result = read_result(toy_run)
    keys = ["done_flag", "model_name", "label_dict", "train_log", "config", "models", "metrics"]
    assert list(result) == [*keys, "format_version", "run"]
    record = json.loads((toy_run / "run.json").read_text())
    assert result["run"] == {"id": record["id"], "digests": record["digests"]}
    assert result["format_version"] == 1
    assert (result["done_flag"], result["model_name"]) == (True, "PP-LCNet_x1_0_ML")
    assert list(result["models"]) == ["best", *(f"last_{k}" for k in range(1, 6))]
    found = [result["label_dict"], result["train_log"], result["config"]]
    for model in result["models"].values():
        found += [v for k, v in model.items() if k not in ("score", "weights", "epoch")]
    assert len(found) == 3 + 7 + 4 + 4  # three texts; best with its static model; two epochs
    assert [path for path in found if not (toy_run / path).is_file()] == []


def test_the_best_weights_of_this_run_are_the_averaged_ones(toy_run: Path) -> None:
    # Else the tests that compare scores could not tell both kinds apart.
    assert read_result(toy_run)["models"]["best"]["weights"] == "ema"
    saved = checkpoint.load(toy_run / "best_model")
    assert any(not np.array_equal(saved.weights[k], saved.ema[k]) for k in saved.weights)


def test_the_result_agrees_with_the_history_and_the_metrics_file(
    toy_run: Path, numbers: Numbers
) -> None:
    result = read_result(toy_run)
    best, history = result["models"]["best"], result["metrics"]["history"]
    maps = [max(row["raw_map"], row["ema_map"]) for row in history]
    assert best["score"] == max(maps) == result["metrics"]["MultiLabelMAP"]
    assert best["score"] == history[best["epoch"] - 1][f"{best['weights']}_map"]
    assert result["models"]["last_1"]["score"] == history[1]["raw_map"]
    assert result["metrics"]["epochs"] == 2
    assert 0 <= result["metrics"]["static_difference"] < 1e-5
    rows = [{key: float(value) for key, value in row.items()} for row in numbers(toy_run)]
    assert rows == [{key: row[key] for key in rows[0]} for row in history]


def test_the_merged_config_and_the_labels_are_kept(toy_run: Path, toy: Path) -> None:
    config = load.load(toy_run / "config.yaml").config
    assert (config.Global.mode, config.Global.dataset_dir) == ("train", toy)
    assert (config.Train.image_size, config.Train.epochs_iters) == (32, 2)
    assert (toy_run / "label_dict.txt").read_bytes() == (toy / "label.txt").read_bytes()


def test_the_log_holds_the_lines_of_steps_and_epochs_with_their_time(toy_run: Path) -> None:
    lines = (toy_run / "train.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ", line) for line in lines)
    texts = [line[22:] for line in lines]
    assert set(GUIDE) <= set(texts)
    assert sum(text.startswith("[Train][Epoch 2/2][Iter 3/3] lr ") for text in texts) == 1
    assert sum(re.match(r"\[Epoch \d/2\] loss .* mAP raw .*, ema ", t) is not None for t in texts)


def test_the_curves_are_a_picture(toy_run: Path) -> None:
    with Image.open(toy_run / "curves.png") as picture:
        assert min(picture.size) >= 480


def test_the_static_model_gives_the_scores_of_the_best_weights(toy_run: Path, toy: Path) -> None:
    folder = toy_run / "best_model"
    model = zoo.build("PP-LCNet_x1_0_ML", 3)
    model.set_state_dict(weights.read(folder / "best_model.pdparams"))  # type: ignore[arg-type]
    model.eval()
    val = annotation.read(toy).val
    images = [transforms.read_image(val.path(i)) for i in range(4)]
    batch = paddle.to_tensor(np.stack([standard(32)(image) for image in images]))
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(batch)).numpy()
        found = paddle.jit.load(str(folder / "inference" / "inference"))(batch).numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert np.ptp(found, axis=0).max() > 0.01


def test_paddle_reads_the_best_weights_under_the_published_names(toy_run: Path) -> None:
    state = paddle.load(str(toy_run / "best_model" / "best_model.pdparams"))
    assert list(state) == list(zoo.build("PP-LCNet_x1_0_ML", 3).state_dict())


def test_a_resume_in_a_new_folder_ends_like_the_unbroken_run(
    run: Run,
    toy: Path,
    toy_run: Path,
    tmp_path: Path,
    assert_same_ending: Callable[[Path, Path], None],
) -> None:
    output = tmp_path / "again"
    path = toy_run / "epoch_1" / "epoch_1.pdparams"
    code, err = run("train", toy, output, f"Train.resume_path={path}")
    assert code == 0
    assert ", after 1 epoch and 0 steps" in err
    assert_same_ending(output, toy_run)
    scores = (folder / "val_scores.npz" for folder in (output, toy_run))
    assert len({path.read_bytes() for path in scores}) == 1
    assert not (output / "epoch_1").exists()
    assert read_result(output)["models"]["last_2"] == {}


@pytest.mark.parametrize("new_folder", [False, True])
def test_a_resume_of_a_finished_run_only_exports(
    run: Run,
    toy: Path,
    toy_run: Path,
    copy_of_run: Path,
    tmp_path: Path,
    numbers: Numbers,
    new_folder: bool,
) -> None:
    shutil.rmtree(copy_of_run / "best_model" / "inference")
    (copy_of_run / "metrics.csv").unlink()  # as a kill after the last checkpoint leaves it
    output = tmp_path / "new" if new_folder else copy_of_run
    code, err = run("train", toy, output, f"Train.resume_path={copy_of_run / 'latest'}")
    assert code == 0
    assert "[Train]" not in err
    assert numbers(output) == numbers(toy_run)
    best = read_result(output)["models"]["best"]
    assert best == read_result(toy_run)["models"]["best"]
    scores = (folder / "val_scores.npz" for folder in (output, toy_run))
    assert len({path.read_bytes() for path in scores}) == 1
    assert all((output / best[key]).is_file() for key in ("pdparams", "pdmodel", "pdiparams"))


def test_a_finished_run_without_its_best_model_says_so(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    shutil.rmtree(copy_of_run / "best_model")
    code, err = run("train", toy, copy_of_run, f"Train.resume_path={copy_of_run / 'latest'}")
    assert code == 2
    assert "error: 2 epochs are done, but the best model is not there" in err
    assert "put that folder back, or train on: -o Train.epochs_iters=3" in err


def test_a_best_model_of_another_run_is_not_taken_for_the_own_one(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    saved = checkpoint.load(copy_of_run / "best_model")
    history = [{**row, "loss": 1.0} for row in saved.progress["history"]]
    other = {**saved.progress, "history": history}  # equal score, epoch and kind
    checkpoint.write(
        copy_of_run / "best_model", checkpoint.Checkpoint(**{**vars(saved), "progress": other})
    )
    resume = f"Train.resume_path={copy_of_run / 'epoch_1'}"
    code, err = run("train", toy, tmp_path / "out", resume)
    assert "does not hold the best model of the resumed run" in err
    assert code == 0


def test_a_changed_rate_is_named_when_resuming(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    _, err = run(
        "train", toy, tmp_path / "out",
        f"Train.resume_path={toy_run / 'latest'}", "Train.learning_rate=5e-4",
    )  # fmt: skip
    assert (
        "Train.learning_rate was 0.0001 before the stop and is 0.0005 now: the numbers will differ"
    ) in err
    assert err.count("before the stop") == 1


def test_another_way_of_decoding_for_evaluation_is_named_when_resuming(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    _, err = run(
        "train", toy, tmp_path / "out",
        f"Train.resume_path={toy_run / 'latest'}", "Evaluate.reduced_decode=true",
    )  # fmt: skip
    assert (
        "Evaluate.reduced_decode was False before the stop and is True now: the numbers will differ"
    ) in err
    assert err.count("before the stop") == 1


def test_a_resume_with_another_image_size_is_refused(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    code, err = run(
        "train", toy, tmp_path / "out",
        f"Train.resume_path={toy_run / 'latest'}", "Train.image_size=64",
    )  # fmt: skip
    assert code == 2
    assert "the checkpoint has image_size 32, this run has 64" in err


def test_training_starts_from_the_weights_of_another_training(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    path = toy_run / "best_model" / "best_model.pdparams"
    total = len(weights.read(path))
    code, err = run(
        "train", toy, tmp_path / "out",
        f"Train.pretrain_weight_path={path}", "Train.epochs_iters=1",
    )  # fmt: skip
    assert code == 0
    assert f"loaded {total} of {total} entries from {path}" in err


def write_weights(path: Path, entries: dict[str, np.ndarray]) -> Path:
    path.write_bytes(pickle.dumps(entries))
    return path


def other_model(folder: Path) -> str:
    entries = {"stem.conv.weight": np.ones((4, 3, 3, 3), np.float32)}
    path = write_weights(folder / "resnet.pdparams", entries)
    return f"Train.pretrain_weight_path={path}"


@pytest.mark.parametrize(
    ("override", "message", "fix"),
    [
        (other_model, "weights of another model: 0 of the", "with -c"),
        ("Train.pretrain_weight_path=lost", "no such weight file: lost", "Train.pretrain_weight"),
        (
            "Train.pretrain_weight_path=.",
            "the folder holds no weight file: .",
            "Train.pretrain_weight",
        ),
        (
            "Train.pretrain_weight_path=http://127.0.0.1:9/a.pdparams",
            "the file cannot be fetched: no connection: ",
            "-o Train.pretrain_weight_path=null, which trains from random weights, or "
            "-o Train.pretrain_weight_path=starter, which takes the weights that come with",
        ),
        (
            "Train.resume_path=missing",
            "no checkpoint there: missing",
            "resume_path=null begins anew",
        ),
        ("Train.num_classes=5", "Train.num_classes is 5, label.txt names 3", "num_classes=null"),
        ("Train.amp=O1", "mixed precision (O1) needs a GPU", "-o Train.amp=OFF"),
        ("Train.tensorboard=maybe", "must be true or false", "-o Train.tensorboard=false"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_repair(
    run: Run, toy: Path, tmp_path: Path, override: Any, message: str, fix: str
) -> None:
    text = override(tmp_path) if callable(override) else override
    code, err = run("train", toy, tmp_path / "out", text)
    assert code == 2
    assert message in err
    assert fix in err.partition("fix:")[2]
    assert "Traceback" not in err
    result = read_result(tmp_path / "out")
    assert (result["done_flag"], result["err_type"]) == (False, "PaddlexMLError")
    assert message in result["err_msg"]
    assert set(os.listdir(tmp_path / "out")) <= {".train.lock", "train_result.json"}


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle knows GPUs")
@pytest.mark.parametrize(
    ("device", "message", "fix"),
    [
        ("gpu", "gpu was asked for, but this Paddle is built for the CPU", "-o Global.device=auto"),
        ("gpu:1", "gpu:1 was asked for, but this Paddle", "install paddlepaddle-gpu"),
        ("gpu:0,1", "gpu:0,1 was asked for, but this Paddle", "-o Global.device=auto"),
    ],
)
def test_gpus_that_are_not_there_are_refused_with_the_repair(
    run: Run, toy: Path, tmp_path: Path, device: str, message: str, fix: str
) -> None:
    code, err = run("train", toy, tmp_path / "out", f"Global.device={device}")
    assert code == 2
    assert message in err
    assert fix in err.partition("fix:")[2]


def test_a_training_learns_from_the_last_batch_and_says_what_it_leaves_out(
    toy: Path, run: Run, tmp_path: Path
) -> None:
    for batch_size, steps, told in (
        (11, 3, "the last of its 3 steps has 2 instead of 11"),
        (23, 1, "each epoch leaves out 1 of 24 images"),
    ):
        output = tmp_path / str(batch_size)
        code, err = run(
            "train", toy, output, f"Train.batch_size={batch_size}", "Train.epochs_iters=1"
        )
        assert code == 0
        assert told in err
        assert told in (output / "train.log").read_text(encoding="utf-8")
        assert read_result(output)["metrics"]["history"][0]["step"] == steps


@pytest.fixture(scope="module")
def many(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy set with 120 classes, of which images have three."""
    data = shutil.copytree(toy, tmp_path_factory.mktemp("many") / "set")
    annotation.write_labels(data / "label.txt", [f"class {i}" for i in range(120)])
    dataset = annotation.read(toy)
    for name, images in (("train", dataset.train), ("val", dataset.val)):
        targets = np.zeros((len(images), 120), np.uint8)
        targets[:, [0, 60, 119]] = images.targets
        paths = [images.path(i).relative_to(toy).as_posix() for i in range(len(images))]
        annotation.write_list(data / f"{name}.txt", paths, targets)
    return data


def queries_of(path: Path) -> tuple[int, int]:
    """Rows of the queries and of the bias in a file of weights."""
    entries = weights.read(path)
    return len(entries["fc.query_pos_embed.weight"]), len(entries["fc.group_conv.bias"])


def strip_queries(folder: Path) -> None:
    """As release 0.1.0 wrote it: nothing in the checkpoint says how many queries there are."""
    saved = checkpoint.load(folder)
    settings = {k: v for k, v in saved.fingerprint.items() if k != "Train.num_queries"}
    info = replace(saved.info, num_queries=None)
    checkpoint.write(folder, replace(saved, info=info, fingerprint=settings))


def use_everywhere(run: Run, data: Path, output: Path, queries: int) -> str:
    """Resume, evaluate both kinds of weights, and export; the log of the resume."""
    code, log = run("train", data, output, "Train.epochs_iters=2", "Train.resume_path=auto")
    assert code == 0, log
    best = output / "best_model" / "best_model.pdparams"
    assert queries_of(best)[0] == queries
    info = checkpoint.read_model_info(output / "latest" / "latest.pdparams")
    assert info is not None
    assert info.num_queries == queries
    other = "raw" if read_result(output)["models"]["best"]["weights"] == "ema" else "ema"
    this = (f"Evaluate.weight_path={best}", f"Evaluate.compare_with={other}")
    code, err = run("evaluate", data, output / "eval", *this, "Evaluate.bootstrap=20")
    assert code == 0, err
    code, err = run("export", data, output / "export", f"Export.weight_path={best}")
    assert code == 0, err
    code, err = run(
        "evaluate", data, output / "eval", f"Evaluate.weight_path={best}", "Train.num_queries=7"
    )
    assert code == 2
    assert f"the head of the weights has {queries} queries, Train.num_queries is 7" in err
    assert "fix:   -o Train.num_queries=auto" in err
    return log


def test_a_hundred_queries_serve_more_classes_in_every_mode(
    run: Run, many: Path, tmp_path: Path
) -> None:
    code, err = run("train", many, tmp_path, "Train.epochs_iters=1")
    assert code == 0, err
    assert queries_of(tmp_path / "latest" / "latest.pdparams") == (100, 200)
    assert checkpoint.load(tmp_path / "latest").fingerprint["Train.num_queries"] == 100
    assert read_result(tmp_path)["metrics"]["static_difference"] < 1e-5
    use_everywhere(run, many, tmp_path, 100)


def test_weights_of_0_1_0_keep_one_query_for_each_of_many_classes(
    run: Run, many: Path, tmp_path: Path
) -> None:
    code, err = run("train", many, tmp_path, "Train.epochs_iters=1", "Train.num_queries=120")
    assert code == 0, err
    for name in ("latest", "best_model", "epoch_1"):
        strip_queries(tmp_path / name)
    log = use_everywhere(run, many, tmp_path, 120)
    assert "Train.num_queries was" not in log


def test_more_queries_than_classes_are_refused(run: Run, toy: Path, tmp_path: Path) -> None:
    code, err = run("train", toy, tmp_path / "out", "Train.num_queries=4")
    assert code == 2
    assert "Train.num_queries is 4, label.txt names 3 classes: a query without a class" in err
    assert "fix:   -o Train.num_queries=3 gives every class its own" in err
    assert not (tmp_path / "out" / "latest").exists()
