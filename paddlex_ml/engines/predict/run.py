# SPDX-License-Identifier: Apache-2.0
"""Mode predict: images -> a line for each, one JSON file, one table, and drawn pictures.

Imports Paddle only for a model that Paddle is to run.
"""

from __future__ import annotations

import logging
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddlex_ml.config.schema import Config
from paddlex_ml.engines import tokens
from paddlex_ml.engines.predict import files
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import inputs, published_model
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.storage import fetch

_MOST_NAMED = 20  # broken images in predict_result.json; the table has all of them

_log = logging.getLogger(__name__)


@dataclass
class _Tally:
    """What has been answered so far."""

    images: int = 0
    failed: list[dict[str, str | None]] = field(default_factory=list)
    failures: int = 0

    def count(self, result: MultiLabelResult) -> None:
        self.images += 1
        if result.error is None:
            return
        self.failures += 1
        if self.failures <= _MOST_NAMED:
            self.failed.append({"input_path": result.input_path, "error": result.error.what})


def run(config: Config) -> dict[str, Any]:
    """Predict on Predict.input and return the content of predict_result.json.

    Images that cannot be read are reported and counted, or end the run with PaddlexMLError where
    Predict.on_error is raise; what was done before is kept.
    """
    wanted, output = config.Predict, config.Global.output
    save_path = _open_save_path(config)
    # Before the model is loaded: what is wrong with the input is told in an instant.
    pictures = inputs.walk(_input(config), skip=save_path)
    model = _load_model(config)
    threshold = wanted.threshold
    if threshold is not None:
        per_class_threshold.resolve(threshold, model.label_names, where="Predict.threshold")
    results = Predictor(model).predict(
        pictures,
        wanted.batch_size,
        threshold,
        max_labels=wanted.max_labels,
        min_labels=wanted.min_labels,
        return_all_scores=wanted.return_all_scores,
        on_error=wanted.on_error,
        explain=wanted.explain,
    )
    tally = _save(config, results, save_path, model.label_names)
    made = {
        "done_flag": not tally.failures,
        "model_dir": _relative(model.folder, output),
        "num_images": tally.images,
        "num_failed": tally.failures,
        "failed": tally.failed,
        "save_path": _relative(save_path, output),
        "json": _relative(save_path / files.JSON, output),
        "csv": _relative(save_path / files.CSV, output),
    }
    if wanted.explain:
        made["explain"] = _relative(save_path / files.EXPLAIN, output)
    return made | _complaint(tally, save_path)


def _save(
    config: Config, results: Iterator[MultiLabelResult], folder: Path, classes: tuple[str, ...]
) -> _Tally:
    tally = _Tally()
    with ExitStack() as stack:
        wanted = config.Predict
        every = wanted.return_all_scores
        add = stack.enter_context(files.collecting(folder, classes, with_all_scores=every))
        draw = None
        if wanted.save_img or wanted.explain:
            pictures = files.drawing(folder, labels=wanted.save_img, maps=wanted.explain)
            draw = stack.enter_context(pictures)
        bar = stack.enter_context(_progress(config, results, folder))
        for result in bar:
            with tqdm.external_write_mode(file=sys.stdout):  # lifts the bar meanwhile
                result.print(format_json=False)
            add(result)
            tally.count(result)
            if draw is not None and result.error is None:
                draw(result)
    return tally


def _progress(config: Config, results: Iterator[MultiLabelResult], folder: Path) -> Any:
    """A bar on a terminal; how many images there are is found out meanwhile."""
    bar = tqdm(results, "predict", unit="image", file=sys.stderr, disable=None, delay=0.5)
    if not bar.disable:

        def count() -> None:
            bar.total = inputs.count(config.Predict.input, skip=folder)

        threading.Thread(target=count, daemon=True).start()
    return bar


def _complaint(tally: _Tally, save_path: Path) -> dict[str, str]:
    """What a result file says, in the words of an error, when images could not be read."""
    if not tally.failures:
        return {}
    first = tally.failed[0]
    error = PaddlexMLError(
        f"{tally.failures} of {tally.images} images could not be read, first: {first['error']}",
        where=str(first["input_path"]),
        fix=f"replace them or leave them out; {save_path / files.CSV} names every one, "
        "and holds the answers for the others",
    )
    return {"err_type": type(error).__name__, "err_msg": str(error)}


def _input(config: Config) -> Any:
    if config.Predict.input is None:
        raise PaddlexMLError(
            "no image is given to predict on",
            where="Predict.input",
            fix="-o Predict.input=photo.jpg (or a folder, a URL, a pattern, a list of these)",
        )
    return config.Predict.input


def _open_save_path(config: Config) -> Path:
    """The folder for the results, made now: better to fail before the model is loaded."""
    folder = config.Predict.save_path or config.Global.output / "predict"
    inner = folder / files.EXPLAIN if config.Predict.explain else folder
    try:
        inner.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PaddlexMLError(
            f"the folder for the results cannot be made: {error.strerror}",
            where=str(inner),
            fix="choose another one: -o Predict.save_path=...",
        ) from error
    return folder


def _load_model(config: Config) -> StaticModel:
    folder = _find_folder(config)
    options = config.Predict.kernel_option
    model = StaticModel(
        folder,
        config.Global.device,
        options.run_mode,
        model_name=config.Global.model,
        cpu_threads=options.cpu_threads,
    )
    tokens.refuse_others(config, model.decoder_tokens, str(folder))
    width, height = model.image_size
    _log.info(
        "%s: %d classes, %d x %d pixels, %s on %s",
        model.model_name, len(model.label_names), width, height, model.run_mode, model.device,
    )  # fmt: skip
    return model


def _find_folder(config: Config) -> Path:
    chosen = config.Predict.model_dir
    own = config.Global.output / "best_model" / "inference"
    if chosen is None:
        if not own.exists():
            raise _not_exported(own, config)
        return own
    if fetch.is_url(chosen):
        return published_model.fetch_folder(
            chosen, fix=f"-o Predict.model_dir=null, which takes {own}"
        )
    return Path(chosen)


def _not_exported(folder: Path, config: Config) -> PaddlexMLError:
    weights = folder.parent / "best_model.pdparams"
    mode = "export" if weights.is_file() else "train"
    output = shlex.quote(f"Global.output={config.Global.output}")
    return PaddlexMLError(
        "there is no exported model" + (", only its weights" if mode == "export" else " yet"),
        where=str(folder),
        fix=f"run -o Global.mode={mode} -o {output} first, or name a folder, or "
        "the URL of a published model: -o Predict.model_dir=...",
    )


def _relative(path: Path, output: Path) -> str:
    """Relative to the output folder when inside, absolute when not."""
    path, output = path.absolute(), output.absolute()
    return path.relative_to(output).as_posix() if path.is_relative_to(output) else path.as_posix()
