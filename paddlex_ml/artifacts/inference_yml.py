# SPDX-License-Identifier: Apache-2.0
"""inference.yml: what a static model is, in the form that PaddleX and PaddleClas read and write.

    Global        model_name; of our exports also decoder_tokens, the run that made the model, and
                  thresholds once tuned
    PreProcess    transform_ops: how images become the input of the network
    PostProcess   MultiLabelThreshOutput: threshold and label_list

The exported folders of all formats hold this file, so that each describes itself. Importing this
module does not import Paddle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from paddlex_ml.artifacts.run_folder import ExportedFiles
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.data import preprocess
from paddlex_ml.data.preprocess import MEAN, STD, Preprocess
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.per_class_threshold import Threshold
from paddlex_ml.storage import files

if TYPE_CHECKING:
    from paddlex_ml.artifacts.checkpoint import ModelInfo  # imports Paddle

THRESHOLD = 0.5
"""Of an export whose thresholds were not tuned, and of a file that has none."""


@dataclass(frozen=True)
class InferenceYml:
    """The content of inference.yml, as far as predictions need it."""

    model_name: str | None
    """None: exports of older PaddleClas carry no name."""
    label_names: tuple[str, ...]
    threshold: Threshold
    """As the file has it: it is checked against the classes where it is used."""
    preprocess: Preprocess
    decoder_tokens: str | None = None
    """What the head sees of the image; None: the file does not name it."""
    run: RunIdentity | None = None
    """The training that made the model; None: the file does not name it."""


def read(path: Path) -> InferenceYml:
    """Read inference.yml. Raises PaddlexMLError unless it describes a multi-label model."""
    about, pre, post = _read_sections(path)
    output = post.get("MultiLabelThreshOutput")
    if not isinstance(output, Mapping):
        raise PaddlexMLError(
            f"not a multi-label model: its output goes through {', '.join(post) or 'nothing'}",
            where=f"{path}: PostProcess",
            fix="name the folder of a model with MultiLabelThreshOutput",
        )
    labels = output.get("label_list")
    if not isinstance(labels, list) or not labels:
        raise PaddlexMLError(
            "the model has no names for its classes",
            where=f"{path}: PostProcess.MultiLabelThreshOutput.label_list",
            fix="list the class names there, one per output, in the order of label.txt",
        )
    name, tokens = about.get("model_name"), about.get("decoder_tokens")
    thresholds = (about.get("thresholds"), output.get("threshold"), THRESHOLD)  # tuned ones first
    return InferenceYml(
        model_name=None if name is None else str(name),
        label_names=tuple(str(label) for label in labels),  # names such as 7 arrive as numbers
        threshold=next(threshold for threshold in thresholds if threshold is not None),
        preprocess=preprocess.read(
            pre.get("transform_ops"), where=f"{path}: PreProcess.transform_ops"
        ),
        decoder_tokens=None if tokens is None else str(tokens),
        run=_read_run(about.get("run")),
    )


def _read_run(value: Any) -> RunIdentity | None:
    try:
        return msgspec.convert(value, RunIdentity)
    except msgspec.ValidationError:  # of another tool, or none
        return None


def _read_sections(path: Path) -> list[Mapping[str, Any]]:
    """Global, PreProcess and PostProcess; empty where a section is missing."""
    fix = "copy the file again, or export the model again: -o Global.mode=export"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise PaddlexMLError(
            f"the description of the model cannot be read: {reason}", where=str(path), fix=fix
        ) from error
    if not isinstance(document, Mapping):
        raise PaddlexMLError(
            "the description of the model is not a mapping of sections", where=str(path), fix=fix
        )
    sections = [document.get(name) for name in ("Global", "PreProcess", "PostProcess")]
    return [section if isinstance(section, Mapping) else {} for section in sections]


def write(folder: Path, info: ModelInfo) -> None:
    """Write `<folder>/inference.yml`. Raises OSError as the system does."""
    document: dict[str, Any] = {
        "Global": {"model_name": info.model},
        "PreProcess": {
            "transform_ops": [
                {
                    "ResizeImage": {
                        "backend": "pil",
                        "interpolation": "bilinear",
                        "size": info.image_size,
                    }
                },
                {
                    "NormalizeImage": {
                        "channel_num": 3,
                        "mean": list(MEAN),
                        "order": "",
                        "scale": 1 / 255,
                        "std": list(STD),
                    }
                },
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {
            "MultiLabelThreshOutput": {
                "threshold": THRESHOLD,
                "label_list": list(info.label_names),
            }
        },
    }
    if info.decoder_tokens:
        document["Global"]["decoder_tokens"] = info.decoder_tokens
    if info.run:
        document["Global"]["run"] = msgspec.to_builtins(info.run)
    files.write_text(ExportedFiles(folder).inference_yml, _dump(document))


def set_thresholds(path: Path, thresholds: Sequence[float], shared: float) -> Path | None:
    """Write a threshold for every class into an inference.yml; the original stays as `.bak`.

    PaddleX reads one number for all classes and misreads a list, so `shared` is written where
    PaddleX looks, and the list into `Global.thresholds`, which it ignores. Returns the backup, None
    where nothing had to change. Raises OSError as the system does.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    before = _dump(document)
    document["Global"] = document.get("Global") or {}  # `Global:` with nothing below is None
    document["Global"]["thresholds"] = [float(number) for number in thresholds]
    document["PostProcess"]["MultiLabelThreshOutput"]["threshold"] = float(shared)
    text = _dump(document)
    if text == before:
        return None
    backup = files.back_up(path)
    files.write_text(path, text)
    return backup


def _dump(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
