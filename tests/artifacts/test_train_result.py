# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from paddlex_ml.artifacts import train_result
from paddlex_ml.artifacts.train_result import EpochRow, read_metrics, write_metrics
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files
from tests.results import TRAINED

HEAD = "epoch,step,lr,loss,raw_map,ema_map,images_per_second,data_wait,memory_mib,seconds"


def row(epoch: int, loss: float, raw: float | None, ema: float | None) -> EpochRow:
    return EpochRow(
        epoch=epoch, step=3 * epoch, lr=1e-3, loss=loss, raw_map=raw, ema_map=ema,
        images_per_second=61.25, data_wait=0.5, memory_mib=1024.0, seconds=12.5,
    )  # fmt: skip


def test_metrics_csv_has_a_row_for_every_evaluation(tmp_path: Path) -> None:
    history = [row(1, 2.5, 0.5, None), row(2, 2.0, None, None), row(3, 1 / 3, 0.75, 0.5)]
    write_metrics(tmp_path / "metrics.csv", history)
    assert (tmp_path / "metrics.csv").read_bytes().decode().split("\n") == [
        HEAD,
        "1,3,0.001,2.5,0.5,,61.25,0.5,1024.0,12.5",
        "3,9,0.001,0.3333333333333333,0.75,0.5,61.25,0.5,1024.0,12.5",
        "",
    ]
    assert read_metrics(tmp_path / "metrics.csv") == (0.75, 3)


@pytest.mark.parametrize("text", ["", HEAD, "epoch,raw_map\n1,0.5\n", f"{HEAD}\n1,x,,,high,\n"])
def test_a_damaged_metrics_csv_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError):  # noqa: PT011
        read_metrics(tmp_path / "metrics.csv")


def test_a_result_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "train_result.json"
    files.write_json(path, msgspec.to_builtins(TRAINED))
    found, metrics = train_result.read(path), TRAINED.metrics
    assert (found.best_map, found.history) == (metrics.best_map, metrics.history)
    assert (found.weights, found.epoch) == (TRAINED.models.best.weights, TRAINED.models.best.epoch)
    assert (found.seconds, found.memory_mib) == (metrics.seconds, metrics.memory_mib)


def test_a_failed_training_says_why_and_other_files_are_no_result(tmp_path: Path) -> None:
    path = tmp_path / "train_result.json"
    path.write_text(
        '{"done_flag": false, "err_msg": "the disk is full\\n  where: x"}', encoding="utf-8"
    )
    with pytest.raises(PaddlexMLError, match=r"the disk is full\n  where: .*train_result"):
        train_result.read(path)
    for text in ('{"done_flag": true}', "[", "{}"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"\w"):
            train_result.read(path)


def test_a_training_that_a_search_has_ended_says_so(tmp_path: Path) -> None:
    path = tmp_path / "train_result.json"
    train_result.write_pruned(path, 3, 20, 0.41239)
    with pytest.raises(PaddlexMLError) as caught:
        train_result.read(path)
    assert caught.value.what == "pruned by a search after epoch 3 of 20: best mAP 0.4124"
    assert caught.value.what.startswith(train_result.PRUNED)


def test_the_map_of_each_epoch_is_that_of_the_better_weights(tmp_path: Path) -> None:
    history = [row(1, 2.5, 0.5, None), row(2, 2.0, None, None), row(3, 1 / 3, 0.75, 0.8)]
    write_metrics(tmp_path / "metrics.csv", history)
    assert train_result.read_maps(tmp_path / "metrics.csv") == [(1, 0.5), (3, 0.8)]
    write_metrics(tmp_path / "metrics.csv", [])
    assert train_result.read_maps(tmp_path / "metrics.csv") == []
