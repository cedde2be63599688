# SPDX-License-Identifier: Apache-2.0
"""Weight files (.pdparams): read without running code from the file, fitted into a model by name.

A .pdparams is a pickled dict of numpy arrays. A plain unpickler would run whatever a stranger's
file asks for, so this one knows numpy arrays and plain containers and nothing else.
"""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_ml.errors import PaddlexMLError

NAME_TABLE = "StructuredToParameterName@@"  # Paddle's own entry beside the tensors
SUFFIX = ".pdparams"


def _rebuilders() -> dict[tuple[str, str], Any]:
    """Global name in the file -> what may be called for it: how numpy writes arrays, no more."""
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float32(0).__reduce__()[0]
    from_buffer = np.zeros(1).__reduce_ex__(5)[0]
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("builtins", "tuple"): tuple,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2 write different module names
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    return allowed


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for codecs.encode, which pickle protocol 2 calls for bytes, always with latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoding {encoding!r} in a weight file")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    allowed = _rebuilders()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.allowed:
            return self.allowed[module, name]
        raise _ForeignCodeError(f"{module}.{name}")


class _ForeignCodeError(Exception):
    """The file asks for a function that has no place in a weight file."""


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays and plain values. Raises PaddlexMLError for everything else."""
    try:
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    except _ForeignCodeError as error:
        raise PaddlexMLError(
            f"the file would run code when read ({error}); it was not read",
            where=str(path),
            fix="do not use this file; get the weights from a source that you trust",
        ) from error
    except OSError as error:
        raise PaddlexMLError(
            f"the file cannot be read: {error.strerror}",
            where=str(path),
            fix="check the path and its permissions",
        ) from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise PaddlexMLError(
            f"not a weight file of Paddle, or a damaged one ({type(error).__name__}: {error})",
            where=str(path),
            fix="copy or download the file again, and compare its size with the original",
        ) from error


def locate(text: str, key: str) -> Path:
    """Path of a weight file named with or without .pdparams; `key` is the YAML key for errors."""
    if "://" in text:
        raise PaddlexMLError(
            f"weights from a URL come in a later release: {text}",
            where=key,
            fix=f"download the file and name its path: -o {key}=./weights.pdparams, "
            f"or do without: -o {key}=null",
        )
    path = Path(text)
    for candidate in (path, path.with_name(path.name + SUFFIX)):
        if candidate.is_file():
            return candidate
    raise PaddlexMLError(
        f"no such weight file: {text}",
        where=key,
        fix=f"name an existing file: -o {key}=path/to/model{SUFFIX}",
    )


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a weight file: entry name -> array. Raises PaddlexMLError when it is not one."""
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise _not_weights(path, f"it holds a {type(content).__name__}, not a dict of tensors")
    weights = {}
    for name, value in content.items():
        array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
        if name == NAME_TABLE:
            continue
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise _not_weights(path, f"its entry {name!r} is not a tensor")
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
        fix="name a .pdparams file written by training with this tool, PaddleX or PaddleClas",
    )


@dataclass(frozen=True)
class Fit:
    """What a weight file gave to a model: names of entries, in the model's order."""

    loaded: list[str]
    skipped: dict[str, str]
    """Entry of the file -> why it was left out."""
    missing: list[str]
    """Entries of the model that keep their random start."""


def fit(model: paddle.nn.Layer, weights: Mapping[str, np.ndarray], *, head: str, where: str) -> Fit:
    """Copy the entries whose name and shape fit into `model`; `head` is the prefix of its head.

    Raises PaddlexMLError when nothing of the backbone fits: heads of different models look
    alike, so a fitting head alone means the weights of another model.
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
    if not any(not name.startswith(head) for name in loaded):
        raise PaddlexMLError(
            "these are weights of another model: nothing in the file fits the backbone\n"
            f"  in the file: {_some(list(weights))}\n  in the model: {_some(list(state))}",
            where=where,
            fix="name the weights of this model, or choose the model they belong to with -c",
        )
    for name in loaded:
        state[name].set_value(weights[name].astype(np.float32))
    kept = set(loaded)
    return Fit(
        [name for name in state if name in kept], skipped, [n for n in state if n not in kept]
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown}, ... ({len(names)} entries)" if len(names) > 3 else shown


def to_arrays(state: Mapping[str, paddle.Tensor]) -> dict[str, np.ndarray]:
    """state_dict -> float32 arrays, as weight files hold them."""
    return {name: value.astype("float32").numpy() for name, value in state.items()}
