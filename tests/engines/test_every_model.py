# SPDX-License-Identifier: Apache-2.0
"""Each model through every command: train, resume, evaluate, export, predict.

With few blocks, because a command treats all blocks alike, and with few channels; tests/models has
the whole models.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from paddlex_ml.config.schema import TOKEN_MODELS
from paddlex_ml.config.shipped import MODELS
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import published
from paddlex_ml.storage import cache, fetch
from tests.shallow import narrow_models, shallow_models

Run = Callable[..., tuple[int, str]]
LIGHT = "PP-HGNetV2-B0_ML"
SMALL = ["Train.image_size=32", "Train.batch_size=12", "Train.save_interval=1"]


@pytest.fixture(scope="module", autouse=True)
def few_blocks() -> Iterator[None]:
    with shallow_models(), narrow_models():
        yield


def result(output: Path, mode: str) -> dict:
    return json.loads((output / f"{mode}_result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=[] if name == LIGHT else [pytest.mark.heavy])
        for name in MODELS
        if name != "PP-LCNet_x1_0_ML"  # the other tests of the engines are its own
    ],
)
def test_a_model_trains_resumes_evaluates_exports_and_predicts(
    run: Run,
    toy: Path,
    tmp_path: Path,
    assert_same_ending: Callable[[Path, Path], None],
    model: str,
) -> None:
    this = [f"Global.model={model}", *SMALL]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert run("train", toy, whole, *this)[0] == 0
    assert result(whole, "train")["done_flag"] is True

    # Resumed after the first of its two epochs, it ends with the same numbers.
    code, _ = run("train", toy, parted, *this, f"Train.resume_path={whole / 'epoch_1'}")
    assert code == 0
    assert_same_ending(parted, whole)
    shutil.rmtree(parted)  # gigabytes

    assert run("evaluate", toy, whole, *this)[0] == 0
    best = result(whole, "train")["models"]["best"]
    assert result(whole, "evaluate")["metrics"]["MultiLabelMAP"] == pytest.approx(
        best["score"], abs=1e-6
    )

    assert run("export", None, whole, *this)[0] == 0
    assert result(whole, "export")["static_difference"] < 1e-4
    folder = whole / "best_model" / "inference"
    settings = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    expected = {"model_name": model}
    assert settings["Global"].pop("run")["id"] == json.loads((whole / "run.json").read_text())["id"]
    assert settings["Global"] == expected | (
        {"decoder_tokens": "all_patches"} if model in TOKEN_MODELS else {}
    )
    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    plain, onednn = (StaticModel(folder, "cpu", mode) for mode in ("paddle", "mkldnn"))
    assert onednn.run_mode == "mkldnn"
    assert np.abs(plain.run(images) - onednn.run(images)).max() < 1e-4

    picture = next((toy / "images").iterdir())
    code, err = run("predict", None, whole, *this, f"Predict.input={picture}")
    assert (code, result(whole, "predict")["num_images"]) == (0, 1), err


@pytest.fixture(scope="module")
def clip(
    few_blocks: None,
    command: Callable[..., list[str]],
    toy: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """Output folder of one epoch of CLIP with the head on the first patch alone."""
    from paddlex_ml import cli

    output = tmp_path_factory.mktemp("clip") / "output"
    this = [f"Global.model={TOKEN_MODELS[0]}", *SMALL, "Train.epochs_iters=1"]
    assert cli.main(command("train", toy, output, *this, "Train.decoder_tokens=first_patch")) == 0
    yield output
    shutil.rmtree(output)  # gigabytes


def test_what_the_head_sees_travels_with_the_weights(clip: Path, run: Run, toy: Path) -> None:
    this = [f"Global.model={TOKEN_MODELS[0]}", *SMALL]
    assert run("evaluate", toy, clip, *this)[0] == 0  # the key is not set: the checkpoint knows
    score = result(clip, "train")["models"]["best"]["score"]
    assert result(clip, "evaluate")["metrics"]["MultiLabelMAP"] == pytest.approx(score, abs=1e-6)
    settings = yaml.safe_load((clip / "best_model/inference/inference.yml").read_text("utf-8"))
    assert settings["Global"]["decoder_tokens"] == "first_patch"


@pytest.mark.parametrize("mode", ["evaluate", "export", "predict"])
def test_another_choice_of_tokens_is_refused(clip: Path, run: Run, toy: Path, mode: str) -> None:
    this = [f"Global.model={TOKEN_MODELS[0]}", *SMALL, "Train.decoder_tokens=all_patches"]
    picture = next((toy / "images").iterdir())
    code, err = run(mode, toy, clip, *this, f"Predict.input={picture}")
    assert code == 2
    assert "the head of this model sees first_patch, Train.decoder_tokens is all_patches" in err
    assert "fix:   -o Train.decoder_tokens=null" in err


def test_a_run_is_not_resumed_with_other_tokens(
    clip: Path, run: Run, toy: Path, tmp_path: Path
) -> None:
    this = [f"Global.model={TOKEN_MODELS[0]}", *SMALL, f"Train.resume_path={clip / 'latest'}"]
    code, err = run("train", toy, tmp_path / "out", *this)
    assert code == 2
    assert "the checkpoint has decoder_tokens first_patch, this run has all_patches" in err


def test_bare_weights_are_taken_as_the_published_ones_unless_the_key_says_otherwise(
    clip: Path, run: Run, toy: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "alone.pdparams"
    os.link(clip / "best_model" / "best_model.pdparams", bare)
    this = [f"Global.model={TOKEN_MODELS[0]}", *SMALL, f"Evaluate.weight_path={bare}"]
    scores = {}
    for tokens in ("null", "first_patch", "all_patches"):
        key = f"Train.decoder_tokens={tokens}"
        code, err = run("evaluate", toy, tmp_path / "out", *this, key)
        assert code == 0
        told = "does not record what its head sees: using first_patch" in err
        assert told == (tokens == "null")
        scores[tokens] = result(tmp_path / "out", "evaluate")["metrics"]["MultiLabelMAP"]
    best = result(clip, "train")["models"]["best"]["score"]
    assert scores["null"] == scores["first_patch"] == pytest.approx(best, abs=1e-6)


def test_weights_from_the_published_url_are_taken_as_published(
    clip: Path, run: Run, toy: Path, tmp_path: Path
) -> None:
    url = published.weights_url(TOKEN_MODELS[0])
    by_hand = cache.path_for(url)
    by_hand.parent.mkdir(parents=True)
    os.link(clip / "best_model" / "best_model.pdparams", by_hand)
    this = [f"Global.model={TOKEN_MODELS[0]}", *SMALL, f"Export.weight_path={url}"]
    code, err = run("export", toy, tmp_path / "out", *this)
    assert code == 0
    assert "does not record what its head sees" not in err
    text = (tmp_path / "out" / "inference" / "inference.yml").read_text("utf-8")
    assert yaml.safe_load(text)["Global"]["decoder_tokens"] == "first_patch"
    code, err = run("export", toy, tmp_path / "out", *this, "Train.decoder_tokens=all_patches")
    assert code == 2
    assert "the head of this model sees first_patch, Train.decoder_tokens is all_patches" in err


def test_only_a_training_fetches_the_weights_that_it_starts_from(
    toy_run: Path, run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(fetch, "cached", lambda url, **_: asked.append(url))
    url = "Train.pretrain_weight_path=https://x.org/a.pdparams"
    weights = toy_run / "best_model" / "best_model.pdparams"
    picture = next((toy / "images").iterdir())
    model = f"Predict.model_dir={toy_run / 'best_model' / 'inference'}"
    copy = tmp_path / "alone.pdparams"
    os.link(weights, copy)
    out = tmp_path / "out"
    assert run("check_dataset", toy, out, url)[0] == 0
    assert run("evaluate", toy, out, url, f"Evaluate.weight_path={weights}")[0] == 0
    assert run("export", toy, out, url, f"Export.weight_path={copy}")[0] == 0
    assert run("predict", None, out, url, model, f"Predict.input={picture}")[0] == 0
    resume = f"Train.resume_path={toy_run / 'latest'}"
    assert run("train", toy, out, url, resume, "Train.epochs_iters=3")[0] == 0
    assert asked == []


def test_a_signal_ends_a_command_that_is_still_fetching(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # the signal comes first
        raise AssertionError("the signal was put off")

    monkeypatch.setattr(fetch, "cached", stopped)
    url = "Train.pretrain_weight_path=https://x.org/a.pdparams"
    code, err = run("train", toy, tmp_path / "out", url)
    assert code == 143, err
