# SPDX-License-Identifier: Apache-2.0
"""Mode predict: images -> a line for each, one JSON file, one table, and drawn pictures.

Paddle is imported only for a model that Paddle runs.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET
from tqdm import tqdm

from paddlex_ml.artifacts import run_lock
from paddlex_ml.artifacts.predict_result import FailedImage, PredictResult, UnansweredFile
from paddlex_ml.artifacts.run_folder import PredictFiles, RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import relations
from paddlex_ml.data.walk import is_image
from paddlex_ml.engines.predict import files, threshold_line, weak_model
from paddlex_ml.engines.predict.save_labels import LabelSaver
from paddlex_ml.engines.predict.set_aside import list_own, set_aside
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import inputs, published_model
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.progress import named, ticking
from paddlex_ml.storage import fetch
from paddlex_ml.storage.files import explain, set_link_aside, write_elsewhere
from paddlex_ml.wording import count, first_names

_MOST_NAMED = 20  # broken images in predict_result.json; the table has all of them

_log = logging.getLogger(__name__)


@dataclass
class _Tally:
    """The images that were predicted so far, and the files that are none."""

    images: int = 0
    failed: list[FailedImage] = field(default_factory=list)
    failures: int = 0
    not_answered: list[UnansweredFile] = field(default_factory=list)
    num_not_answered: int = 0

    def count(self, result: MultiLabelResult) -> None:
        if result.error is not None and result.is_unanswered:
            self.num_not_answered += 1
            if self.num_not_answered <= _MOST_NAMED:
                what = result.error.what
                self.not_answered.append(UnansweredFile(str(result["input_path"]), what))
            return
        self.images += 1
        if result.error is None:
            return
        self.failures += 1
        if self.failures <= _MOST_NAMED:
            self.failed.append(FailedImage(result["input_path"], result.error.what))


def run(config: Config) -> PredictResult:
    """Predict on Predict.input and return the content of predict_result.json.

    Images that cannot be read are reported and counted, or end the run with PaddlexMLError where
    Predict.on_error is raise; what was done before is kept.
    """
    saved = _make_save_path(config)
    if config.Predict.save_path is None:  # the output folder is locked already
        return _run(config, saved)
    key = "Predict.save_path"
    with run_lock.writing(saved.folder, "predict", key):
        try:
            return _run(config, saved)
        except OSError as error:
            error.filename = error.filename or str(saved.folder)  # a full disk names no file
            if (known := explain(error, key)) is None:
                raise
            raise known from error


def _run(config: Config, saved: PredictFiles) -> PredictResult:
    wanted = config.Predict
    if wanted.input is None:
        raise PaddlexMLError(
            "no image is given to predict on",
            where="Predict.input",
            fix="-o Predict.input=photo.jpg (or a folder, a URL, a pattern, a list of these)",
        )
    # Before the model is loaded, so that an error of the input is reported at once.
    _refuse_photographs(wanted.input, saved)
    pictures = inputs.walk(wanted.input, skip=saved.folder, frames=wanted.frames)
    model = _load_model(config)
    threshold_line.tell(wanted.threshold, model)
    labels = None
    if wanted.save_labels is not None:
        names, root = model.label_names, config.Global.dataset_dir
        known = None if wanted.relations is None else relations.read(wanted.relations, names)
        labels = LabelSaver(root, names, wanted.save_labels, known)
    results = Predictor(model).predict(
        pictures,
        wanted.batch_size,
        wanted.threshold,
        max_labels=wanted.max_labels,
        min_labels=wanted.min_labels,
        relations=wanted.relations,
        return_all_scores=wanted.return_all_scores or labels is not None,
        on_error=wanted.on_error,
        explain=wanted.explain,
        keep_side=wanted.longest_side if wanted.save_img or wanted.explain else None,
    )
    tally = _save(config, results, saved, model.label_names, labels)
    added = UNSET if labels is None else labels.write()
    return msgspec.structs.replace(_describe(config, model, tally, saved), labels=added)


def _make_save_path(config: Config) -> PredictFiles:
    """Make the folder for the results: better to fail before the model is loaded than after."""
    default = RunFolder(config.Global.output).predict
    saved = PredictFiles(config.Predict.save_path or default.folder)
    folder = saved.explain if config.Predict.explain else saved.folder
    try:
        if config.Predict.save_path is None:  # else the user has named where the link leads
            set_link_aside(saved.folder)
        set_link_aside(saved.explain)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PaddlexMLError(
            f"the folder for the results cannot be made or written: {error.strerror}",
            where=str(folder),
            fix=f"choose another one: {override('Predict.save_path', 'predictions')}",
        ) from error
    return saved


def _refuse_photographs(source: Any, saved: PredictFiles) -> None:
    """Refuse images among the results, in a folder that is asked for: the results are left out."""
    folder = Path(os.path.realpath(saved.folder))
    sources = source if isinstance(source, list) else [source]
    asked = (text for text in sources if isinstance(text, str) and os.path.isdir(text))
    if not any(Path(os.path.realpath(text)) in folder.parents for text in asked):
        return
    own = {*list_own(saved)}
    names = filter(is_image, sorted(os.listdir(folder)))
    others = [name for name in names if saved.folder / name not in own]
    if others:
        raise PaddlexMLError(
            f"the folder for the results holds {count(len(others), 'image')} that would be "
            "left out, such "
            f"as {others[0]}",
            where=str(saved.folder),
            fix=f"save elsewhere: {write_elsewhere(folder, 'Predict.save_path')}",
        )


@named("loading the model")
def _load_model(config: Config) -> StaticModel:
    folder, options = _find_folder(config), config.Predict.kernel_option
    model = StaticModel(
        folder,
        config.Global.device,
        options.run_mode,
        model_name=config.Global.model,
        decoder_tokens=config.Train.decoder_tokens,
        cpu_threads=options.cpu_threads,
    )
    width, height = model.image_size
    _log.info(
        "%s: %s, %d x %d pixels, %s on %s",
        model.model_name, count(len(model.label_names), "class", "classes"), width, height,
        model.run_mode, model.device,
    )  # fmt: skip
    if weakness := weak_model.describe(model.folder, model.made_by):
        _log.warning("%s", weakness)
    return model


def _find_folder(config: Config) -> Path:
    chosen, best = config.Predict.model_dir, RunFolder(config.Global.output).best_model
    trained = best.inference.folder
    if chosen is not None and fetch.is_url(chosen):
        return published_model.fetch_folder(
            chosen, fix=f"-o Predict.model_dir=null, which takes {trained}"
        )
    if chosen is not None:
        return Path(chosen)
    if trained.exists():
        return trained
    has_weights = best.weights.is_file()
    mode = "export" if has_weights else "train"
    raise PaddlexMLError(
        "there is no exported model" + (", only its weights" if has_weights else " yet"),
        where=str(trained),
        fix=f"run -o Global.mode={mode} {override('Global.output', config.Global.output)} first, "
        "or name a folder, or the URL of a published model, behind Predict.model_dir",
    )


def _save(
    config: Config,
    results: Iterator[MultiLabelResult],
    saved: PredictFiles,
    classes: tuple[str, ...],
    labels: LabelSaver | None,
) -> _Tally:
    """Print, write and draw the results while they are predicted."""
    tally, wanted = _Tally(), config.Predict
    draws = wanted.save_img or wanted.explain
    set_aside(saved)
    with ExitStack() as stack:
        add = stack.enter_context(
            files.writing(
                saved, classes, with_all_scores=wanted.return_all_scores, with_picture=draws
            )
        )
        draw = stack.enter_context(
            files.drawing(
                saved,
                labels=wanted.save_img,
                maps=wanted.explain,
                longest_side=wanted.longest_side,
            )
        )
        names = files.PictureNames(saved)
        bar = stack.enter_context(ticking(_show_progress(config, results, saved.folder)))
        for result in bar:
            if labels is not None:
                labels.add(result)
                if not wanted.return_all_scores:
                    result.pop("all_scores", None)
            with tqdm.external_write_mode(file=sys.stdout):  # hides the bar meanwhile
                result.print(format_json=False)
            picture = names.choose(result) if draws and result.error is None else ""
            add(result, picture)
            tally.count(result)
            if picture:
                draw(result, picture)
    return tally


def _describe(
    config: Config, model: StaticModel, tally: _Tally, saved: PredictFiles
) -> PredictResult:
    """The result; with an error where images could not be read."""
    output = config.Global.output
    complaints = []
    where, fix = "", f"; {saved.predictions_csv} lists each of them, and the results of the others"
    if tally.failures:
        first = tally.failed[0]
        complaints = [
            f"{tally.failures} of {count(tally.images, 'image')} could not be read, "
            f"first: {first.error}"
        ]
        where, fix = str(first.input_path), f"replace them or leave them out{fix}"
    if tally.num_not_answered:
        names = [os.path.basename(file.input_path) for file in tally.not_answered]
        names += [""] * (tally.num_not_answered - len(names))
        unanswered = (
            f"{count(tally.num_not_answered, 'file was', 'files were')} not "
            f"answered: {first_names(names)}"
        )
        _log.warning("%s (%s says what they are)", unanswered, saved.predictions_csv)
        if config.Predict.strict:
            complaints.append(unanswered)
            where = where or tally.not_answered[0].input_path
            fix = fix if tally.failures else f"take them out, or -o Predict.strict=false{fix}"
    result = PredictResult(
        done_flag=not complaints,
        model_dir=_relative(model.folder, output),
        num_images=tally.images,
        num_failed=tally.failures,
        failed=tally.failed,
        num_not_answered=tally.num_not_answered,
        not_answered=tally.not_answered,
        save_path=_relative(saved.folder, output),
        json=_relative(saved.predictions_json, output),
        csv=_relative(saved.predictions_csv, output),
        explain=_relative(saved.explain, output) if config.Predict.explain else UNSET,
        run=model.made_by or UNSET,
    )
    if not complaints:
        return result
    error = PaddlexMLError("; ".join(complaints), where=where, fix=fix)
    return msgspec.structs.replace(result, err_type=type(error).__name__, err_msg=str(error))


def _show_progress(config: Config, results: Iterator[MultiLabelResult], folder: Path) -> Any:
    """A bar on a terminal; a thread counts the images meanwhile."""
    bar = tqdm(results, "predict", unit="image", file=sys.stderr, disable=None, delay=0.5)
    if not bar.disable and config.Predict.frames is None:  # frames are counted as they are read

        def count() -> None:
            bar.total = inputs.count(config.Predict.input, skip=folder)

        threading.Thread(target=count, daemon=True).start()
    return bar


def _relative(path: Path, output: Path) -> str:
    """Relative to the output folder when inside, absolute when not."""
    path, output = path.absolute(), output.absolute()
    return path.relative_to(output).as_posix() if path.is_relative_to(output) else path.as_posix()
