# SPDX-License-Identifier: Apache-2.0
"""Weight files: read without running code from the file, fitted into a model by name.

Two forms, recognised by their content: .safetensors, and Paddle's .pdparams, a pickled dict of
numpy arrays. A plain unpickler would run any code that a file from the internet asks for, so
`pickled` reads only numpy arrays and plain containers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_ml.artifacts import named_files, pickled, safetensors_file
from paddlex_ml.artifacts.run_folder import WEIGHTS
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import fetch, regular_file
from paddlex_ml.wording import first_names

NAME_TABLE = "StructuredToParameterName@@"  # Paddle's own entry beside the tensors
_QUERIES = ("query_pos_embed.weight", "group_conv.weight", "group_conv.bias")
"""Entries of the head that are of use only together."""

_TEXTS = (".yaml", ".yml", ".txt", ".json", ".csv", ".log", ".md")


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays and plain values. Raises PaddlexMLError for everything else.

    The arrays are read-only views of the bytes of the file, so that large weights are in memory
    once.
    """
    head = b""
    try:
        with regular_file.open_regular(path, regular_file.LARGEST_WEIGHTS, is_text=False) as file:
            head = file.read(512)
            _refuse_other_kinds(head, path)
            file.seek(0)
            return pickled.load(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise PaddlexMLError(
            f"the file cannot be read: {error.strerror}",
            where=str(path),
            fix="check the path and its permissions",
        ) from error
    except PaddlexMLError:
        raise
    except (pickled.ForeignCodeError, pickled.TooMuchError) as error:
        is_code = isinstance(error, pickled.ForeignCodeError)
        why = "would run code when read" if is_code else "asks for more than its length allows"
        raise PaddlexMLError(
            f"the file {why} ({error}); it was not read",
            where=str(path),
            fix="do not use this file; get the weights from a source that you trust",
        ) from error
    except Exception as error:  # a damaged pickle raises almost anything
        why = " ".join(f"{type(error).__name__}: {error}".split()) if head else "0 bytes"
        raise PaddlexMLError(
            f"not a weight file of Paddle, or a damaged one ({why})",
            where=str(path),
            fix="copy or download the file again, and compare its size with the original",
        ) from error


def _refuse_other_kinds(head: bytes, path: Path) -> None:
    for is_this_kind, kind in (  # what users most often name in place of weights
        (head.startswith(b"PK"), "a zip file, as PyTorch saves weights, and not Paddle's"),
        (head[257:262] == b"ustar", "a tar archive, as static models are published"),
        (head.startswith(b"\x1f\x8b"), "compressed with gzip"),
        (fetch.is_page(head), "a web page, perhaps the error page of a server"),
        (path.suffix.lower() in _TEXTS, "a text file, which describes something"),
    ):
        if is_this_kind:
            raise _not_weights(path, f"it is {kind}")


def locate(text: str, key: str, *, null: str = "does without them") -> Path:
    """Path of a weight file; a URL is fetched, unless the cache has it.

    text: a path, with or without its suffix, or an http(s) URL. `key` is the YAML key and `null`
    what its value null does, both for errors.
    """
    if fetch.is_url(text):
        return fetch.cached(text, check=read, fix=f"-o {key}=null, which {null}")
    return named_files.find_weight_file(text, key, null)


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a weight file: entry name -> array. Raises PaddlexMLError when it is not one."""
    content = (
        safetensors_file.load(path) if safetensors_file.is_safetensors(path) else load_pickle(path)
    )
    if not isinstance(content, dict):
        raise _not_weights(path, f"it holds a {type(content).__name__}, not a dict of tensors")
    weights = {}
    for name, value in content.items():
        array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
        if name == NAME_TABLE:
            continue
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise _not_weights(path, f"its entry {name!r} is not a tensor")
        if array.dtype == np.uint16:  # bfloat16 is stored so: the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _not_weights(path, f"its entry {name!r} holds NaN or infinite values")
        if array.dtype.kind == "f" and array.dtype.itemsize > 4:  # as the model will hold them
            with np.errstate(over="ignore"):
                converted = array.astype(np.float32)
            if not np.isfinite(converted).all():
                raise _not_weights(
                    path, f"its entry {name!r} holds values that are infinite in float32"
                )
        weights[str(name)] = array
    if not weights:
        raise _not_weights(path, "it holds no tensors")
    return weights


def _not_weights(path: Path, why: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"not usable as weights: {why}",
        where=str(path),
        fix=f"name a {WEIGHTS} file written by training with this tool, PaddleX or PaddleClas, or "
        "the same weights as .safetensors",
    )


@dataclass(frozen=True)
class Fit:
    """Which entries of a weight file a model took: their names, in the model's order."""

    loaded: list[str]
    skipped: dict[str, str]
    """Entry of the file -> why it was left out."""
    missing: list[str]
    """Entries of the model that keep their random start."""


def fit(model: paddle.nn.Layer, weights: Mapping[str, np.ndarray], *, head: str, where: str) -> Fit:
    """Copy the entries whose name and shape fit into `model`; `head` is the prefix of its head.

    The queries and the layer that reads their answers are taken together or not at all. Raises
    PaddlexMLError, before anything is copied, when less than half of the backbone fits: heads of
    different models have the same shapes, and models of a family share some layers.
    """
    state = model.state_dict()
    loaded, skipped = [], {}
    for name, value in weights.items():
        if name not in state:
            skipped[name] = "the model has no such entry"
        elif list(value.shape) != list(state[name].shape):
            skipped[name] = f"shape {list(value.shape)}, the model needs {list(state[name].shape)}"
        else:
            loaded.append(name)
    queries = [f"{head}{end}" for end in _QUERIES]
    unfit = [name for name in queries if name not in loaded]
    for name in queries if unfit else ():
        if name in loaded:
            loaded.remove(name)
            skipped[name] = f"it belongs to {unfit[0]}, which does not fit"
    backbone = [name for name in state if not name.startswith(head)]
    fits = len(set(backbone) & set(loaded))
    if fits < len(backbone) / 2:
        raise PaddlexMLError(
            Lines(
                f"these are weights of another model: {fits} of the {len(backbone)} entries of the "
                "backbone fit\n"
                f"  in the file: {one_line(first_names(list(weights), 3))}\n"
                f"  in the model: {first_names(list(state), 3)}"
            ),
            where=where,
            fix="name the weights of this model, or choose the model they belong to with -c",
        )
    for name in loaded:
        dtype = str(state[name].dtype).removeprefix("paddle.")  # int64 for the order of classes
        state[name].set_value(weights[name].astype(dtype, copy=False))
    kept = set(loaded)
    return Fit(
        [name for name in state if name in kept], skipped, [n for n in state if n not in kept]
    )


def to_arrays(state: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    """state_dict -> float32 arrays, as weight files hold them."""
    return {name: value.astype("float32").numpy() for name, value in state.items()}
