# SPDX-License-Identifier: Apache-2.0
"""inference.yml: what a static model is, in the form that PaddleX and PaddleClas read and write.

    Global        model_name; of our exports also decoder_tokens, the run that made the model,
                  class_queries of heads whose classes have another order than in the paper, and
                  thresholds once tuned
    PreProcess    transform_ops: how images become the input of the network
    PostProcess   MultiLabelThreshOutput: threshold and label_list

The exported folders of all formats hold this file, so that each describes itself. An ONNX file says
the same in its metadata, for those who copy that file alone:

    model_name, decoder_tokens   text
    label_names                  JSON: class names in the order of the scores
    image_size                   pixels of a side, or JSON: [width, height]
    scale, mean, std             JSON: input = (RGB values of 0..255 * scale - mean) / std
    threshold, thresholds        JSON: one number for all classes; one for each, which goes first
    class_queries                JSON: number of the head's query that predicts each class

Where both are there, inference.yml counts, which users edit. Importing this module does not import
Paddle.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from paddlex_ml.artifacts import onnx_metadata
from paddlex_ml.artifacts.run_folder import INFERENCE_YML, IR, ONNX, ExportedFiles
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.data import preprocess
from paddlex_ml.data.preprocess import MEAN, STD, Preprocess
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.per_class_threshold import Threshold
from paddlex_ml.storage import files, limited_yaml, regular_file

if TYPE_CHECKING:
    from paddlex_ml.artifacts.checkpoint import ModelInfo  # imports Paddle

logger = logging.getLogger(__name__)

_JSON = (
    *("label_names", "image_size", "scale", "mean", "std", "threshold", "thresholds", "run"),
    "class_queries",
)

_LINE_ENDS = re.compile("[\x85\u2028\u2029\ufeff]")

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
    class_queries: tuple[int, ...] | None = None
    """Query of the head that predicts each class; None: as in the paper."""


def read(path: Path) -> InferenceYml:
    """Read inference.yml. Raises PaddlexMLError unless it describes a multi-label model."""
    return _interpret(_read_document(path), path)


def read_onnx(path: Path) -> InferenceYml | None:
    """Read what an ONNX file says of itself; None where another tool wrote it.

    Raises PaddlexMLError for a file that is no ONNX file, and for a description that is damaged.
    """
    texts = onnx_metadata.read(path)
    if not {"model_name", "label_names", "image_size"} <= texts.keys():
        return None
    plain = {key: text for key, text in texts.items() if key in ("model_name", "decoder_tokens")}
    try:
        given = {key: json.loads(text) for key, text in texts.items() if key in _JSON}
    except (ValueError, RecursionError) as error:
        raise PaddlexMLError(
            f"the metadata of the ONNX file is damaged: {error}",
            where=str(path),
            fix="export it again: -o Global.mode=export -o Export.format=onnx",
        ) from error
    document = _compose(
        plain, given["label_names"], given["image_size"], given.get("threshold", THRESHOLD), given
    )
    document["Global"]["run"] = given.get("run")
    if "class_queries" in given:
        document["Global"]["class_queries"] = given["class_queries"]
    thresholds = given.get("thresholds")
    if thresholds != [given.get("threshold")] * len(thresholds or ()):
        document["Global"]["thresholds"] = thresholds
    return _interpret(document, path)


def find(graph: Path) -> InferenceYml:
    """The description of an ONNX file: an inference.yml beside it, or what the file itself says.

    A file with another name than inference.onnx, which says what it is, is not described by an
    inference.yml that happens to be there. Raises PaddlexMLError where there is no description.
    """
    described, beside = None, graph.with_name(INFERENCE_YML)
    with suppress(PaddlexMLError) if beside.is_file() else nullcontext():  # told by onnxruntime
        described = read_onnx(graph)
    if beside.is_file() and (described is None or graph.name == ONNX):
        content = read(beside)
        if described is not None and described != content:
            differing = [
                field for field in vars(content) if vars(content)[field] != vars(described)[field]
            ]
            logger.warning(
                "%s and the metadata of %s differ in %s: %s counts",
                *(beside, graph.name, ", ".join(differing), beside.name),
            )
        return content
    if described is None:
        raise PaddlexMLError(
            f"the ONNX file does not say what its model is, and no {INFERENCE_YML} is beside it",
            where=str(graph),
            fix=f"copy {INFERENCE_YML} from the folder of the export to it, or export it again: "
            "-o Global.mode=export -o Export.format=onnx",
        )
    return described


def _interpret(document: Mapping[str, Any], path: Path) -> InferenceYml:
    sections = [document.get(name) for name in ("Global", "PreProcess", "PostProcess")]
    about, pre, post = (s if isinstance(s, Mapping) else {} for s in sections)
    output = post.get("MultiLabelThreshOutput")
    if not isinstance(output, Mapping):
        raise PaddlexMLError(
            "not a multi-label model: its output goes through "
            f"{', '.join(map(str, post))[:200] or 'nothing'}",
            where=f"{path}: PostProcess",
            fix="name the folder of a model with MultiLabelThreshOutput",
        )
    labels = output.get("label_list")
    is_list = isinstance(labels, list) and not any(isinstance(x, list | dict) for x in labels)
    if not is_list or not labels:
        raise PaddlexMLError(
            "the model has no names for its classes",
            where=f"{path}: PostProcess.MultiLabelThreshOutput.label_list",
            fix="list the class names there, one per output, in the order of label.txt",
        )
    name, tokens = about.get("model_name"), about.get("decoder_tokens")
    thresholds = (about.get("thresholds"), output.get("threshold"), THRESHOLD)  # tuned ones first
    return InferenceYml(
        model_name=None if name is None else str(name)[:200],
        label_names=tuple(str(label) for label in labels),  # names such as 7 arrive as numbers
        threshold=next(threshold for threshold in thresholds if threshold is not None),
        preprocess=preprocess.read(
            pre.get("transform_ops"), where=f"{path}: PreProcess.transform_ops"
        ),
        decoder_tokens=None if tokens is None else str(tokens),
        run=_read_run(about.get("run")),
        class_queries=_read_queries(about.get("class_queries"), len(labels), path),
    )


def _read_queries(value: Any, classes: int, path: Path) -> tuple[int, ...] | None:
    with suppress(ValueError):  # of msgspec
        queries = msgspec.convert(value, tuple[int, ...] | None)
        if queries is None or (len(queries) == classes and min(queries) >= 0):
            return queries
    raise PaddlexMLError(
        "class_queries is not one number per class, the query of the head that predicts it",
        where=f"{path}: Global.class_queries",
        fix="export the model again: -o Global.mode=export",
    )


def _read_run(value: Any) -> RunIdentity | None:
    try:
        return msgspec.convert(value, RunIdentity)
    except ValueError:  # of msgspec: of another tool, or none
        return None


def _read_document(path: Path) -> Mapping[str, Any]:
    fix = "copy the file again, or export the model again: -o Global.mode=export"
    try:
        content = regular_file.read(path, regular_file.LARGEST_YAML)
        document = limited_yaml.load(content.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PaddlexMLError(
            f"the description of the model cannot be read: {reason}", where=str(path), fix=fix
        ) from error
    if not isinstance(document, Mapping):
        raise PaddlexMLError(
            "the description of the model is not a mapping of sections", where=str(path), fix=fix
        )
    return document


def write(folder: Path, info: ModelInfo) -> None:
    """Write `<folder>/inference.yml`. Raises OSError as the system does."""
    about: dict[str, Any] = {"model_name": info.model}
    if info.decoder_tokens:
        about["decoder_tokens"] = info.decoder_tokens
    if info.run:
        about["run"] = msgspec.to_builtins(info.run)
    if info.class_queries:
        about["class_queries"] = list(info.class_queries)
    document = _compose(about, list(info.label_names), info.image_size, THRESHOLD, {})
    files.write_text(ExportedFiles(folder).inference_yml, _dump(document))


def describe(info: ModelInfo) -> dict[str, str]:
    """The description of a new model as texts, for an ONNX file."""
    numbers = {
        "scale": 1 / 255,
        "mean": MEAN,
        "std": STD,
        "threshold": THRESHOLD,
        "thresholds": [THRESHOLD] * len(info.label_names),
    }
    texts = {
        "model_name": info.model,
        "label_names": json.dumps(info.label_names, ensure_ascii=False),
        "image_size": str(info.image_size),
        **{key: json.dumps(value) for key, value in numbers.items()},
    }
    if info.run:
        texts["run"] = msgspec.json.encode(info.run).decode()
    if info.class_queries:
        texts["class_queries"] = json.dumps(info.class_queries)
    return texts | ({"decoder_tokens": info.decoder_tokens} if info.decoder_tokens else {})


def _compose(
    about: Mapping[str, Any],
    label_names: list[str],
    size: Any,
    threshold: Any,
    normalise: Mapping[str, Any],
) -> dict[str, Any]:
    """The document; `normalise` may have other values than the usual scale, mean and std."""
    usual = {"mean": list(MEAN), "scale": 1 / 255, "std": list(STD)}
    numbers = {key: normalise.get(key, value) for key, value in usual.items()}
    resize = {"backend": "pil", "interpolation": "bilinear", "size": size}
    return {
        "Global": dict(about),
        "PreProcess": {
            "transform_ops": [
                {"ResizeImage": resize},
                {
                    "NormalizeImage": {
                        "channel_num": 3,
                        "mean": numbers["mean"],
                        "order": "",
                        "scale": numbers["scale"],
                        "std": numbers["std"],
                    }
                },
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {
            "MultiLabelThreshOutput": {"threshold": threshold, "label_list": label_names}
        },
    }


def set_thresholds(
    path: Path, thresholds: Sequence[float], shared: float, *, back_up: bool = True
) -> Path | None:
    """Write a threshold for every class into an inference.yml; the original stays as `.bak`.

    back_up: false for a file that was written just now, of an export that is not yet there.

    PaddleX reads one number for all classes and misreads a list, so `shared` is written where
    PaddleX looks, and the list into `Global.thresholds`, which it ignores. An ONNX file or a
    model of OpenVINO beside it gets them too: only its metadata changes, whose earlier thresholds
    the backup has, so that no second copy of hundreds of megabytes is kept. Returns the backup,
    None where inference.yml did not have to change. Raises OSError as the system does.
    """
    document = dict(_read_document(path))
    before = _dump(document)
    about = document.get("Global")  # `Global:` with nothing below is None
    document["Global"] = dict(about) if isinstance(about, Mapping) else {}
    document["Global"]["thresholds"] = [float(number) for number in thresholds]
    document["PostProcess"]["MultiLabelThreshOutput"]["threshold"] = float(shared)
    text = _dump(document)
    _set_in_onnx(path.with_name(ONNX), document)
    _set_in_ir(path.with_name(IR), document)
    if text == before:
        return None
    backup = files.back_up(path) if back_up else None
    files.write_text(path, text)
    return backup


def take_over(path: Path, folder: Path) -> None:
    """Give a new export the inference.yml at `path`, of one that has other thresholds alone."""
    document = _read_document(path)
    (folder / INFERENCE_YML).unlink()
    files.link(path, folder / INFERENCE_YML)
    if "thresholds" in (document.get("Global") or {}):
        _set_in_onnx(folder / ONNX, document)
        _set_in_ir(folder / IR, document)


def _set_in_onnx(path: Path, document: Mapping[str, Any]) -> None:
    """Give an ONNX file that describes itself the thresholds of an inference.yml."""
    if not path.is_file() or read_onnx(path) is None:
        return
    texts = onnx_metadata.read(path)
    changed = texts | {
        "threshold": json.dumps(document["PostProcess"]["MultiLabelThreshOutput"]["threshold"]),
        "thresholds": json.dumps(document["Global"]["thresholds"]),
    }
    if changed != texts:
        onnx_metadata.replace(path, changed)


def _set_in_ir(path: Path, document: Mapping[str, Any]) -> None:
    """Give a model of OpenVINO, whose texts came from an ONNX file, the thresholds."""
    if not path.is_file():
        return
    text = before = regular_file.read(path, regular_file.LARGEST_ANNOTATION).decode("utf-8")
    for name, value in (
        ("threshold", document["PostProcess"]["MultiLabelThreshOutput"]["threshold"]),
        ("thresholds", document["Global"]["thresholds"]),
    ):
        text = re.sub(f'(<{name} value=")[^"<]*(" ?/>)', rf"\g<1>{json.dumps(value)}\g<2>", text)
    if text != before:
        files.write_text(path, text)


class _Dumper(yaml.SafeDumper):
    """Writes line ends of Unicode within a text as escapes: read back, they would be spaces."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _dump(document: Any) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
