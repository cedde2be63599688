# SPDX-License-Identifier: Apache-2.0
"""Reads the part of Python's pickle format that weight files use: arrays and plain containers.

Python's own reader gives a file more than it needs: it sets a table of any length for an index of
four bytes, calls what the file names, and compares keys that refer to each other for ever. This one
knows no classes, and decides every size before it makes anything: time and memory are at most a
fixed factor of the length of the file.
"""

from __future__ import annotations

import collections
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Literal

import numpy as np

MOST_STEPS = 4_000_000
"""Instructions of a file. A model has less than 100,000, a training of 10,000 epochs 400,000."""
MOST_FACTOR = 4
"""What a file may ask for, as bytes or as values, for each byte or value that it has: an entry may
be referred to more than once, as tied weights are."""
MOST_DEPTH = 50
"""Containers in each other."""
_SPARE = 10_000  # bytes or values that small files may refer to again
_LONGEST_KEY_NUMBER = 1 << 31


class ForeignCodeError(Exception):
    """The file asks for a function that weight files do not need."""


class TooMuchError(Exception):
    """The file asks for more memory or time than its length allows."""


class _NumberType:
    """Stands in for numpy.dtype: the file may name a type of plain numbers and its byte order.

    The real one accepts any state that the file sets, such as floats that are object pointers, and
    so gives the file access to the memory of the program.
    """

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str):
            raise pickle.UnpicklingError("a type of numbers without a name")
        self.real = np.dtype(code)
        if self.real.kind not in "biuf":
            raise pickle.UnpicklingError(f"values of type {self.real} in a weight file")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.real = self.real.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray until its content is known."""

    def __init__(self, *_: object) -> None:
        self.real: np.ndarray = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number_type, by_column, content = state
        self.real = _from_buffer(content, number_type, shape, "F" if by_column else "C").real


def _from_buffer(
    content: bytes, number_type: _NumberType, shape: tuple[int, ...], order: Literal["C", "F"]
) -> _Array:
    array = _Array()
    view = np.frombuffer(content, number_type.real)  # not a copy
    array.real = view.reshape(shape, order=order)
    return array


def _scalar(number_type: _NumberType, content: bytes) -> np.generic:
    number: np.generic = np.frombuffer(content, number_type.real)[0]
    return number


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for codecs.encode, which pickle protocol 2 calls for bytes, always with latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoding {encoding!r} in a weight file")
    return text.encode("latin1")


def _ordered(pairs: Any = ()) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict((_key(key), value) for key, value in pairs)


# Global name in the file -> what is called for it: only what Paddle and numpy write arrays with.
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _NumberType,
    ("collections", "OrderedDict"): _ordered,
    ("builtins", "tuple"): tuple,
    ("builtins", "bytes"): lambda: b"",  # pickle protocol 2 calls it without argument
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2 write different module names
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer

_COPYING = (_latin1, tuple, _ordered)
"""What makes a second object as large as its argument, which the file may name again and again."""


def load(file: BinaryIO, size: int) -> Any:
    """Read the value in a file of `size` bytes. The arrays are read-only views of its bytes.

    Raises ForeignCodeError and TooMuchError, and almost anything else for a damaged file.
    """
    reader = _Reader(file, size)
    try:
        value = reader.run()
    except IndexError as error:  # of a stack that is empty
        raise pickle.UnpicklingError("an instruction without its values") from error
    return _Finisher(reader.steps, size).real(value, 0)


def _key(key: Any) -> Any:
    """A key of a mapping, which is compared with others: one whose comparison takes no time."""
    is_number = type(key) is int and abs(key) < _LONGEST_KEY_NUMBER
    if not is_number and type(key) not in (str, bytes, type(None), bool):
        raise pickle.UnpicklingError(f"a key of type {type(key).__name__} in a mapping")
    return key


class _Finisher:
    """Puts the arrays in place of their stand-ins; values that are referred to again count again.

    Those who use the result see it without its references, as a tree.
    """

    def __init__(self, steps: int, size: int) -> None:
        self.values = MOST_FACTOR * steps + _SPARE
        self.bytes = MOST_FACTOR * size + _SPARE

    def real(self, value: Any, depth: int) -> Any:
        self.values -= 1
        if isinstance(value, _Array):
            self.bytes -= value.real.nbytes
        elif isinstance(value, str | bytes):
            self.bytes -= len(value)
        if self.values < 0 or self.bytes < 0:
            kind = "values" if self.values < 0 else "bytes"
            what = f"its references ask for more than {MOST_FACTOR} times the {kind} that it holds"
            raise TooMuchError(what)
        if depth > MOST_DEPTH:
            raise TooMuchError(f"its containers are more than {MOST_DEPTH} deep")
        if isinstance(value, _Array):
            return value.real
        if isinstance(value, dict):
            return {self.real(key, depth): self.real(value[key], depth + 1) for key in value}
        if isinstance(value, list | tuple):
            return type(value)([self.real(item, depth + 1) for item in value])
        return value


_NUMBERS = {b"J": struct.Struct("<i"), b"K": struct.Struct("<B"), b"M": struct.Struct("<H")}
_NUMBERS[b"G"] = struct.Struct(">d")
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_EMPTY: dict[bytes, Callable[[], Any]] = {b"]": list, b"}": dict, b")": tuple}
_COUNTED: dict[bytes, tuple[int, Callable[[bytes], Any]]] = {
    b"\x8c": (1, lambda data: data.decode("utf-8", "surrogatepass")),  # SHORT_BINUNICODE
    b"X": (4, lambda data: data.decode("utf-8", "surrogatepass")),
    b"\x8d": (8, lambda data: data.decode("utf-8", "surrogatepass")),
    b"C": (1, bytes),  # SHORT_BINBYTES
    b"B": (4, bytes),
    b"\x8e": (8, bytes),
    b"\x96": (8, bytes),  # BYTEARRAY8
    b"U": (1, lambda data: data.decode("ascii")),  # SHORT_BINSTRING
    b"T": (4, lambda data: data.decode("ascii")),
    b"\x8a": (1, lambda data: int.from_bytes(data, "little", signed=True)),  # LONG1
}
"""Instruction -> bytes of the length before its content, and what the content becomes."""
_LINES: dict[bytes, Callable[[str], Any]] = {
    b"I": lambda text: {"00": False, "01": True}[text] if text in ("00", "01") else int(text),
    b"L": lambda text: int(text.removesuffix("L")),
    b"F": float,
    b"V": lambda text: text.encode("latin1").decode("raw-unicode-escape"),
    b"S": lambda text: text[1:-1].encode("latin1").decode("unicode-escape"),
}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_PUTS = {b"q": 1, b"r": 4}
_GETS = {b"h": 1, b"j": 4}


class _Reader:
    """The stack machine of the format, for the instructions that weight files have."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: list[Any] = []
        self._may_copy = MOST_FACTOR * size + _SPARE
        self.steps = 0
        self._others: dict[bytes, Callable[[], object]] = {
            b"\x80": self._read_protocol,
            b"\x95": lambda: self._take(8),  # the length of a frame
            b"(": self._mark,
            b"0": lambda: self._stack.pop(),
            b"2": lambda: self._stack.append(self._stack[-1]),
            b"\x94": lambda: self._memo.append(self._stack[-1]),
            b"p": lambda: self._put(int(self._line())),
            b"g": lambda: self._stack.append(self._memo[int(self._line())]),
            b"t": lambda: self._push(tuple(self._marked())),
            b"l": lambda: self._push(self._marked()),
            b"d": lambda: self._set_items({}, self._marked()),
            b"a": lambda: self._extend([self._stack.pop()]),
            b"e": lambda: self._extend(self._marked()),
            b"s": lambda: self._set_items(None, [self._stack.pop(-2), self._stack.pop()]),
            b"u": lambda: self._set_items(None, self._marked()),
            b"c": lambda: self._name(self._line(), self._line()),
            b"\x93": lambda: self._name(self._stack.pop(-2), self._stack.pop()),
            b"R": self._call,
            b"b": self._build,
        }

    def run(self) -> Any:
        """Follow the instructions up to the end; the value that is left."""
        while (code := self._take(1)) != b".":
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise TooMuchError(f"it has more than {MOST_STEPS:,} instructions")
            if code in _COUNTED:
                width, convert = _COUNTED[code]
                self._stack.append(convert(self._take(int.from_bytes(self._take(width), "little"))))
            elif code in _NUMBERS:
                number = _NUMBERS[code]
                self._stack.append(number.unpack(self._take(number.size))[0])
            elif code in _PUTS:
                self._put(int.from_bytes(self._take(_PUTS[code]), "little"))
            elif code in _GETS:
                self._stack.append(self._memo[int.from_bytes(self._take(_GETS[code]), "little")])
            elif code in _CONSTANTS:
                self._stack.append(_CONSTANTS[code])
            elif code in _EMPTY:
                self._stack.append(_EMPTY[code]())
            elif code in _TUPLES:
                count = _TUPLES[code]
                if len(self._stack) < count:
                    raise IndexError
                self._stack[-count:] = [tuple(self._stack[-count:])]
            elif code in _LINES:
                self._stack.append(_LINES[code](self._line()))
            elif code in self._others:
                self._others[code]()
            else:
                raise pickle.UnpicklingError(f"the instruction {code!r}, which weights do not need")
        return self._stack.pop()

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise EOFError(f"{count:,} bytes are to be read, {self._left:,} are left")
        self._left -= count
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError("the file became shorter")
        return data

    def _line(self) -> str:
        line = self._file.readline(self._left)
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise EOFError("a line without its end")
        return line[:-1].decode("latin1")

    def _read_protocol(self) -> None:
        if (version := self._take(1)[0]) > pickle.HIGHEST_PROTOCOL:
            raise pickle.UnpicklingError(f"pickle protocol {version}")

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _put(self, index: int) -> None:
        """Remember a value. Writers count from 0 or 1: a far index would only make room."""
        if not 0 <= index <= self.steps:
            raise TooMuchError(
                f"it asks for a table of {index:,} values, after {self.steps:,} instructions"
            )
        self._memo.extend([None] * (index + 1 - len(self._memo)))
        self._memo[index] = self._stack[-1]

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(target := self._stack[-1], list):
            raise pickle.UnpicklingError("items for what is no list")
        target.extend(items)

    def _set_items(self, made: dict[Any, Any] | None, items: list[Any]) -> None:
        if made is not None:
            self._stack.append(made)
        if not isinstance(target := self._stack[-1], dict) or len(items) % 2:
            raise pickle.UnpicklingError("items for what is no mapping")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _name(self, module: Any, name: Any) -> None:
        module = "builtins" if module == "__builtin__" else module  # protocols 0 to 2
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("a function without a name")
        if (module, name) not in _ALLOWED:
            raise ForeignCodeError(f"{module}.{name}"[:200])
        self._stack.append(_Allowed(_ALLOWED[module, name]))

    def _call(self) -> None:
        arguments, named = self._stack.pop(), self._stack.pop()
        if not isinstance(named, _Allowed) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("a call of what is no function")
        arguments = tuple(a.function if isinstance(a, _Allowed) else a for a in arguments)
        if named.function in _COPYING and arguments:
            self._may_copy -= len(arguments[0])
            if self._may_copy < 0:
                raise TooMuchError(f"it copies more than {MOST_FACTOR} times its bytes")
        self._stack.append(named.function(*arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        if isinstance(state, _Allowed) or not isinstance(
            target := self._stack[-1], _Array | _NumberType
        ):
            raise pickle.UnpicklingError("a state for what has none")
        target.__setstate__(state)


class _Allowed:
    """A function that the file has named: only a call uses it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
