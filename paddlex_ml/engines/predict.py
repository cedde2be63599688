# SPDX-License-Identifier: Apache-2.0
"""Mode predict: images -> one line, one JSON file and one picture for each of them."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddlex_ml import fetch
from paddlex_ml.config.schema import Config
from paddlex_ml.engines import trained
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import archive, inputs, thresholds
from paddlex_ml.inference.inputs import Picture
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.inference.static import StaticModel

_log = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Predict on Predict.input and return the content of predict_result.json.

    Raises PaddlexMLError at the first image that cannot be read; what was done before it is kept.
    """
    pictures = _list_pictures(config)
    save_path = _open_save_path(config, pictures)
    model = _load_model(config)
    limits = thresholds.resolve(
        config.Predict.threshold, model.label_names, where="Predict.threshold"
    )
    results = Predictor(model, limits).predict(pictures, config.Predict.batch_size)
    with tqdm(
        results, "predict", len(pictures), unit="image", file=sys.stderr,
        disable=None if len(pictures) > 1 else True,  # None: shown on a terminal only
    ) as bar:  # fmt: skip
        saved = [_save(result, save_path, config.Global.output) for result in bar]
    return {
        "done_flag": True,
        "model_dir": _relative(model.folder, config.Global.output),
        "num_images": len(saved),
        "save_path": _relative(save_path, config.Global.output),
        "results": saved,
    }


def _list_pictures(config: Config) -> list[Picture]:
    if config.Predict.input is None:
        raise PaddlexMLError(
            "no image is given to predict on",
            where="Predict.input",
            fix="-o Predict.input=photo.jpg (or a folder, a URL, a pattern, a list of these)",
        )
    return inputs.expand(config.Predict.input)


def _open_save_path(config: Config, pictures: list[Picture]) -> Path:
    """The folder for the results, made now: better to fail before the model is loaded."""
    folder = config.Predict.save_path or config.Global.output / "predict"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PaddlexMLError(
            f"the folder for the results cannot be made: {error.strerror}",
            where=str(folder),
            fix="choose another one: -o Predict.save_path=...",
        ) from error
    sources = {os.path.dirname(os.path.abspath(p.path)) for p in pictures if p.path}
    if any(os.path.isdir(source) and os.path.samefile(source, folder) for source in sources):
        raise PaddlexMLError(
            "the drawn pictures would overwrite the images they are drawn from",
            where=str(folder),
            fix="save into another folder: -o Predict.save_path=...",
        )
    return folder


def _load_model(config: Config) -> StaticModel:
    folder = _find_folder(config)
    model = StaticModel(
        folder,
        config.Global.device,
        config.Predict.kernel_option.run_mode,
        model_name=config.Global.model,
    )
    trained.refuse_other_tokens(config, model.decoder_tokens, str(folder))
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
        return archive.fetch_folder(chosen, fix=f"-o Predict.model_dir=null, which takes {own}")
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


def _save(result: MultiLabelResult, folder: Path, output: Path) -> dict[str, str | None]:
    with tqdm.external_write_mode(file=sys.stdout):  # lifts the bar while the line is printed
        result.print(format_json=False)
    return {
        "input_path": result.input_path,
        "json": _relative(result.save_to_json(folder), output),
        "img": _relative(result.save_to_img(folder), output),
    }


def _relative(path: Path, output: Path) -> str:
    """Relative to the output folder when inside, absolute when not."""
    path, output = path.absolute(), output.absolute()
    return path.relative_to(output).as_posix() if path.is_relative_to(output) else path.as_posix()
