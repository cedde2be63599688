# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from paddlex_ml.config import load, shipped
from paddlex_ml.config.predict_schema import PredictConfig
from paddlex_ml.config.schema import Config, GlobalConfig, TrainConfig
from paddlex_ml.data import annotation, journal, targets
from paddlex_ml.engines.predict import run, save_labels
from paddlex_ml.errors import PaddlexMLError
from tests.engines.predict.test_run import trained as trained

CLASSES = ["cat", "狗", "bird"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with two labelled images, and three in `more/` that no list names."""
    root = tmp_path / "set"
    (root / "more").mkdir(parents=True)
    for i, path in enumerate(("a.png", "b.png", "more/c.png", "more/d e.png", "more/f.png")):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(root / path)
    annotation.write_labels(root / "label.txt", CLASSES)
    annotation.write_list(root / "train.txt", ["a.png"], np.array([[1, 0, 1]]))
    annotation.write_list(root / "val.txt", ["b.png"], np.array([[0, 1, 0]]))
    return root


def configure(trained: Path, tmp_path: Path, root: Path | None, **options: Any) -> Config:
    return Config(
        Global=GlobalConfig(
            model="PP-LCNet_x1_0_ML",
            mode="predict",
            output=tmp_path / "output",
            dataset_dir=root,
            device="cpu",
        ),
        Train=TrainConfig(learning_rate=1e-3, warmup_steps=1),
        Predict=PredictConfig(
            model_dir=str(trained / "best_model" / "inference"), save_img=False, **options
        ),
    )


def predict(config: Config) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(run.run(config))
    return content


def read_scores(trained: Path, tmp_path: Path, source: Path) -> dict[str, list[float]]:
    predict(configure(trained, tmp_path, None, input=str(source), return_all_scores=True))
    results = json.loads((tmp_path / "output" / "predict" / "predictions.json").read_text("utf-8"))
    return {Path(each["input_path"]).name: each["all_scores"] for each in results}


def test_scores_become_labels_unknown_ones_and_absent_ones(
    trained: Path, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = read_scores(trained, tmp_path, folder / "more")
    assert len(scores) == 3
    low, high = np.quantile(list(scores.values()), [0.3, 0.7])
    caplog.set_level(logging.INFO)
    config = configure(
        trained, tmp_path, folder, input=str(folder / "more"), save_labels=(low, high)
    )
    result = predict(config)
    dataset = annotation.read(folder)
    assert dataset.train.paths == ["a.png", "more/c.png", "more/d e.png", "more/f.png"]
    table = np.array([scores[Path(path).name] for path in dataset.train.paths[1:]])
    expected = np.where(table >= high, 1, np.where(table >= low, -1, 0))
    assert {-1, 0, 1} == {*expected.ravel().tolist()}
    assert dataset.train.targets.tolist() == [[1, 0, 1], *expected.tolist()]
    assert (folder / "train.txt.bak").read_text() == "a.png\t1,0,1\n"
    counts = [int((expected == value).sum()) for value in (1, 0, -1)]
    assert result["labels"] == {
        "list": (folder / "train.txt").as_posix(),
        "images": 3,
        **dict(zip(("present", "absent", "unknown"), counts, strict=True)),
        "left_out": {},
    }
    told = f"3 images added, with {counts[0]} present, {counts[1]} absent and {counts[2]} unknown"
    assert told in caplog.text
    assert journal.undo_command(folder) in caplog.text
    lines = (tmp_path / "output" / "predict" / "predictions.json").read_text("utf-8")
    assert "all_scores" not in lines
    journal.undo(folder)
    assert (folder / "train.txt").read_text() == "a.png\t1,0,1\n"


def test_images_of_which_no_label_is_certain_are_told(
    trained: Path, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure(
        trained, tmp_path, folder, input=str(folder / "more"), save_labels=(0.0, 1.0)
    )
    assert predict(config)["labels"]["unknown"] == 9
    told = "no label of 3 added images is certain: nothing is learned from them"
    assert any(text.startswith(told) for text in caplog.messages)


def test_images_that_a_list_names_stay_as_they_are(
    trained: Path, tmp_path: Path, folder: Path
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "outside.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    sources = [str(folder), str(tmp_path / "outside.png"), str(folder / "more" / "c.png")]
    config = configure(trained, tmp_path, folder, input=sources, save_labels=(0.0, 0.0))
    assert not predict(config)["done_flag"]  # one image is broken
    dataset = annotation.read(folder)
    assert dataset.train.paths[0] == "a.png"
    assert dataset.train.targets[0].tolist() == [1, 0, 1]
    assert sorted(dataset.train.paths[1:]) == ["more/c.png", "more/d e.png", "more/f.png"]
    assert dataset.val.targets.tolist() == [[0, 1, 0]]
    again = predict(config)["labels"]
    assert again["images"] == 0
    assert again["left_out"] == {
        "in a list already": 6,
        "not readable": 1,
        f"outside {folder}": 1,
    }
    assert not (folder / "train.txt.bak.1").exists()


def test_a_folder_of_images_becomes_a_data_set(trained: Path, tmp_path: Path, folder: Path) -> None:
    source = folder / "more"
    config = configure(trained, tmp_path, source, input=str(source), save_labels=(0.2, 0.9))
    assert predict(config)["labels"]["images"] == 3
    dataset = annotation.read(source, ["train"])
    assert dataset.label_names == CLASSES
    assert dataset.train.paths == ["c.png", "d e.png", "f.png"]


def test_classes_are_matched_by_name(
    trained: Path, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotation.write_labels(folder / "label.txt", ["bird", "mouse", "cat"])
    config = configure(
        trained, tmp_path, folder, input=str(folder / "more"), save_labels=(0.0, 0.0)
    )
    predict(config)
    values = annotation.read(folder).train.values
    assert targets.dense(values)[1:].tolist() == [[1, -1, 1]] * 3
    assert "not saved: 1 class of the model that label.txt does not have: 狗" in caplog.text


def test_what_cannot_take_labels_is_refused_before_anything_is_predicted(
    trained: Path, tmp_path: Path, folder: Path
) -> None:
    config = configure(trained, tmp_path, None, input=str(folder), save_labels=(0.1, 0.9))
    with pytest.raises(PaddlexMLError, match="-o Global\\.dataset_dir="):
        predict(config)
    annotation.write_labels(folder / "label.txt", ["x", "y", "z"])
    config = configure(trained, tmp_path, folder, input=str(folder), save_labels=(0.1, 0.9))
    with pytest.raises(PaddlexMLError, match="no class in common: cat, 狗, bird and x, y, z"):
        predict(config)


def write_relations(folder: Path, scores: dict[str, list[float]]) -> tuple[list[int], Path]:
    """Class ids by rising score; the highest one implies the lowest and excludes the middle one."""
    table = np.array([*scores.values()])
    low, middle, high = np.argsort(table.mean(axis=0)).tolist()
    assert table[:, low].max() < table[:, middle].min()
    assert max(table[:, middle].max(), 0.5) < table[:, high].min()
    path = folder / "relations.yaml"
    names = [CLASSES[i] for i in (high, low, middle)]
    path.write_text(
        "implies: {{{}: {}}}\nexclusive: [[{}, {}]]\n".format(*names, names[0]), "utf-8"
    )
    return [low, middle, high], path


@pytest.mark.parametrize("with_relations", [False, True])
def test_saved_labels_keep_relations(
    trained: Path, tmp_path: Path, folder: Path, with_relations: bool
) -> None:
    scores = read_scores(trained, tmp_path, folder / "more")
    order, path = write_relations(folder, scores)
    table = np.array([*scores.values()])
    limits = float(table[:, order[1]].min()), float(table[:, order[2]].min())
    options = {"input": str(folder / "more"), "relations": path if with_relations else None}
    predict(configure(trained, tmp_path, folder, save_labels=limits, **options))
    rows = annotation.read(folder, ["train"]).train.targets[1:, order]
    assert rows.tolist() == [[1, 0, 1] if with_relations else [0, -1, 1]] * 3


def test_soft_labels_are_the_scores_and_keep_relations(
    trained: Path, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores = read_scores(trained, tmp_path, folder / "more")
    source, before = str(folder / "more"), (folder / "train.txt").read_bytes()
    with caplog.at_level(logging.INFO):
        content = predict(configure(trained, tmp_path, folder, input=source, save_labels="soft"))
    assert (content["labels"]["images"], content["labels"]["soft"]) == (3, 9)
    assert "9 of them with soft values: train with -o Train.soft_labels=true" in caplog.text
    assert (folder / "train.txt").read_bytes().startswith(before)
    train = annotation.read(folder, ["train"], soft_labels=True).train
    assert train.soft is not None
    for i, path in enumerate(train.paths[1:], 1):
        row = train.soft.fill(targets.row(train.values, i), i)
        assert row.tolist() == pytest.approx(scores[Path(path).name], abs=5.1e-5)
    with pytest.raises(PaddlexMLError, match=r"Train\.soft_labels=true"):
        annotation.read(folder, ["train"])
    journal.undo(folder)
    (low, middle, high), relations = write_relations(folder, scores)
    options = {"input": source, "relations": relations}
    predict(configure(trained, tmp_path, folder, save_labels="soft", **options))
    train = annotation.read(folder, ["train"], soft_labels=True).train
    assert train.soft is not None
    for i, path in enumerate(train.paths[1:], 1):
        row, score = train.soft.fill(targets.row(train.values, i), i), scores[Path(path).name]
        assert row[low] == row[high] == pytest.approx(score[high], abs=5.1e-5)
        limit = min(score[middle], 1 - score[high])
        assert row[middle] == pytest.approx(limit, abs=5.1e-5)


def test_lines_that_are_there_stay_byte_for_byte(
    trained: Path, tmp_path: Path, folder: Path
) -> None:
    old = b"\xef\xbb\xbfa.png\t1,,1 \r\nmore/c.png\t -1,0, 1\t2\r\n\r\n"
    (folder / "train.txt").write_bytes(old)
    source = str(folder / "more")
    predict(configure(trained, tmp_path, folder, input=source, save_labels=(0.1, 0.9)))
    new = (folder / "train.txt").read_bytes()
    assert new.startswith(old.removesuffix(b"\r\n"))
    added = new[len(old) - 2 :].split(b"\r\n")
    assert [line.split(b"\t")[0] for line in added] == [b"more/d e.png", b"more/f.png", b""]
    train = annotation.read(folder, ["train"]).train
    assert train.weights is not None
    assert train.weights.tolist() == [1, 2, 1, 1]


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("[0.9, 0.1]", "-o 'Predict.save_labels=[0.1, 0.9]'"),
        ("0.5", "-o 'Predict.save_labels=[0.1, 0.9]'"),
        ("[0.1, 1.5]", "Predict.save_labels"),
        ("true", "-o 'Predict.save_labels=[0.1, 0.9]'"),
    ],
)
def test_wrong_scores_are_refused_with_a_repair(value: str, fix: str) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        load.load(shipped.find("PP-LCNet_x1_0_ML")[0], [f"Predict.save_labels={value}"])
    assert fix in str(caught.value)


@pytest.mark.parametrize("wanted", ["soft", (0.2, 0.8)])
def test_an_image_that_is_given_twice_is_saved_once(
    trained: Path, tmp_path: Path, folder: Path, wanted: Any
) -> None:
    sources = [str(folder / "more" / name) for name in ("c.png", "f.png", "c.png")]
    result = predict(configure(trained, tmp_path, folder, input=sources, save_labels=wanted))
    dataset = annotation.read(folder, soft_labels=True)
    assert dataset.train.paths == ["a.png", "more/c.png", "more/f.png"]
    assert result["labels"]["left_out"] == {"given again": 1}


def test_images_that_another_process_has_listed_meanwhile_keep_its_labels(
    folder: Path,
) -> None:
    saver = save_labels.LabelSaver(folder, CLASSES, "soft", None)
    for name in ("c.png", "f.png"):
        path = str(folder / "more" / name)
        result: Any = SimpleNamespace(input_path=path, error=None, frame=None)
        result.all_scores = [0.9, 0.2, 0.5]
        saver.add(result)
    with (folder / "train.txt").open("a") as file:
        file.write("more/c.png\t0,1,0\n")
    saved = saver.write()
    assert (saved.images, saved.left_out) == (1, {"in a list already": 1})
    dataset = annotation.read(folder, soft_labels=True)
    assert dataset.train.paths == ["a.png", "more/c.png", "more/f.png"]
    assert dataset.train.targets[1].tolist() == [0, 1, 0]


def test_lists_without_the_names_of_their_classes_are_never_replaced(folder: Path) -> None:
    (folder / "label.txt").unlink()
    before = (folder / "train.txt").read_text()
    with pytest.raises(PaddlexMLError, match="that says which classes the labels of") as refused:
        save_labels.LabelSaver(folder, CLASSES, "soft", None)
    assert "train.txt and val.txt have" in refused.value.what
    assert (folder / "train.txt").read_text() == before
