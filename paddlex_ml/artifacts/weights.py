# SPDX-License-Identifier: Apache-2.0
"""Weight files: read without running code from the file, fitted into a model by name.

Two forms, recognised by their content: .safetensors, and Paddle's .pdparams, a pickled dict of
numpy arrays. A plain unpickler would run any code that a file from the internet asks for, so this
one accepts only numpy arrays and plain containers.
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle

from paddlex_ml.artifacts import safetensors_file
from paddlex_ml.artifacts.run_folder import WEIGHTS
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import fetch
from paddlex_ml.wording import first_names

NAME_TABLE = "StructuredToParameterName@@"  # Paddle's own entry beside the tensors
_SUFFIXES = (WEIGHTS, ".safetensors")
_QUERIES = ("query_pos_embed.weight", "group_conv.weight", "group_conv.bias")
"""Entries of the head that are of use only together."""


class _NumberType:
    """Stands in for numpy.dtype: the file may name a type of plain numbers and its byte order.

    The real one accepts any state that the file sets, such as floats that are object pointers, and
    so gives the file access to the memory of the program.
    """

    def __init__(self, code: str, *_: object) -> None:
        self.real = np.dtype(code)
        if self.real.kind not in "biuf":
            raise pickle.UnpicklingError(f"values of type {self.real} in a weight file")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.real = self.real.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray until its content is known."""

    def __init__(self, *_: object) -> None:
        self.real = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number_type, by_column, content = state
        self.real = _from_buffer(content, number_type, shape, "F" if by_column else "C")


def _from_buffer(
    content: bytes, number_type: _NumberType, shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray:
    return np.frombuffer(content, number_type.real).reshape(shape, order=order)  # not a copy


def _scalar(number_type: _NumberType, content: bytes) -> np.generic:
    number: np.generic = np.frombuffer(content, number_type.real)[0]
    return number


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for codecs.encode, which pickle protocol 2 calls for bytes, always with latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoding {encoding!r} in a weight file")
    return text.encode("latin1")


# Global name in the file -> what is called for it: only what Paddle and numpy write arrays with.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _NumberType,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "tuple"): tuple,
    ("builtins", "bytes"): lambda: b"",  # pickle protocol 2 calls it without argument
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2 write different module names
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # protocols 0 to 2
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise _ForeignCodeError(f"{module}.{name}")


class _ForeignCodeError(Exception):
    """The file asks for a function that weight files do not need."""


def _real(value: Any) -> Any:
    """Put the arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        return value.real
    if isinstance(value, dict):
        return {key: _real(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_real(item) for item in value)
    return value


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays and plain values. Raises PaddlexMLError for everything else.

    The arrays are read-only views of the bytes of the file, so that large weights are in memory
    once.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
            for is_this_kind, kind in (  # what users most often name in place of weights
                (head.startswith(b"PK"), "a zip file, as PyTorch saves weights, and not Paddle's"),
                (head[257:262] == b"ustar", "a tar archive, as static models are published"),
                (head.startswith(b"\x1f\x8b"), "compressed with gzip"),
                (fetch.is_page(head), "a web page, perhaps the error page of a server"),
            ):
                if is_this_kind:
                    raise _not_weights(path, f"it is {kind}")
            file.seek(0)
            return _real(_Unpickler(file).load())
    except OSError as error:
        raise PaddlexMLError(
            f"the file cannot be read: {error.strerror}",
            where=str(path),
            fix="check the path and its permissions",
        ) from error
    except PaddlexMLError:
        raise
    except _ForeignCodeError as error:
        raise PaddlexMLError(
            f"the file would run code when read ({error}); it was not read",
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


def locate(text: str, key: str, *, null: str = "does without them") -> Path:
    """Path of a weight file; a URL is fetched, unless the cache has it.

    text: a path, with or without its suffix, or an http(s) URL. `key` is the YAML key and `null`
    what its value null does, both for errors.
    """
    if fetch.is_url(text):
        return fetch.cached(text, check=read, fix=f"-o {key}=null, which {null}")
    for candidate in (Path(text), *(Path(text + suffix) for suffix in _SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise PaddlexMLError(
        f"no such weight file: {text}",
        where=key,
        fix=f"name an existing file: -o {key}=path/to/model{WEIGHTS}",
    )


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
            f"these are weights of another model: {fits} of the {len(backbone)} entries of the "
            "backbone fit\n"
            f"  in the file: {first_names(list(weights), 3)}\n"
            f"  in the model: {first_names(list(state), 3)}",
            where=where,
            fix="name the weights of this model, or choose the model they belong to with -c",
        )
    for name in loaded:
        state[name].set_value(weights[name].astype(np.float32, copy=False))
    kept = set(loaded)
    return Fit(
        [name for name in state if name in kept], skipped, [n for n in state if n not in kept]
    )


def to_arrays(state: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    """state_dict -> float32 arrays, as weight files hold them."""
    return {name: value.astype("float32").numpy() for name, value in state.items()}
