# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "paddlex_ml"

# A room imports itself and lower floors: never sideways, never up. This list is the architecture.
FLOORS = [
    {"safe_text", "systems"},
    {"errors", "program", "progress", "run_modes", "stop_signals", "wording"},
    {"machine_memory", "gpus"},
    {"storage", "streams", "cores", "devices", "metrics", "ended_process", "scenes"},
    {"terminal", "kernels", "onnx_runtime", "openvino_runtime", "paddle_runtime"},
    {"distributed"},
    {"data", "models", "pictures"},
    {"artifacts", "evaluation", "formats"},
    {"config", "training", "export", "inference", "report", "tracking"},
    {"engines", "next_command"},
    {"__init__"},  # the public API: create_model
    {"command_line"},
    {"cli", "tools"},
    {"__main__"},
]
# Modules of one name in two rooms mean the same thing there.
SAME_NAME = {
    "run": "the story of a mode",
    "files": "what is written: by storage as such, by a mode into the run folder",
    "plan": "the plan of a training: its type, and how options become one",
    "result": "the result of a mode or of one image",
}
MOST_LINES = 50
"""Lines of a function."""
MOST_FUNCTIONS = 5.0
"""Functions per 100 lines of the package (`benchmarks/code_figures.py` shows every room)."""
FORBIDDEN = {"utils", "util", "common", "base", "core", "helpers", "helper", "misc"}
MAY_PRINT = {"cli.py", "terminal.py", "inference/result.py", "tools/runs.py"}

MODULES = sorted(PACKAGE.rglob("*.py"))
DOORS = [ROOT / "main.py", *sorted((ROOT / "dataset_tools").rglob("*.py"))]
ALL = [
    *MODULES,
    *DOORS,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
    *sorted((ROOT / "release").rglob("*.py")),
]


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All nodes of the syntax tree of a file, made once for all tests."""
    gc.disable()  # it would go through the trees of all files, again and again, and find nothing
    try:
        return list(ast.walk(ast.parse(path.read_text("utf-8"))))
    finally:
        gc.enable()


def room_of(path: Path) -> str:
    """First part of a module's path inside the package, without .py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


ROOMS = {room_of(path) for path in MODULES}


def height(room: str) -> int:
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module and imported name ('' for a plain import), inside functions too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, module, alias.name) for alias in node.names)


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    for line, module, name in imports(path):
        parts = module.split(".")
        if parts[0] != "paddlex_ml":
            continue
        if len(parts) > 1:
            yield line, parts[1]
        else:
            yield line, name if name in ROOMS else "__init__"


def test_every_module_stands_on_a_floor():
    assert len(MODULES) > 30
    assert set.union(*FLOORS) == ROOMS


def test_no_module_imports_sideways_or_up():
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {room}"
        for path in MODULES
        for line, room in imported_rooms(path)
        if room != room_of(path) and height(room) >= height(room_of(path))
    ]
    assert faults == []


def test_a_sideways_import_would_be_seen(tmp_path):
    module = tmp_path / "sideways.py"
    module.write_text(
        "def late():\n    from paddlex_ml import models\n    import paddlex_ml.data.check\n"
    )
    assert list(imported_rooms(module)) == [(2, "models"), (3, "data")]
    assert height("models") == height("data")


def test_doors_import_nothing_of_ours_but_the_package():
    assert len(DOORS) >= 2
    ours = {path.stem for path in DOORS} | {"tests", "benchmarks", "dataset_tools"}
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in DOORS
        for line, module, _ in imports(path)
        if module.split(".")[0] in ours or module.split(".")[0] in {"paddle", "numpy", "cv2"}
    ]
    assert faults == []


def test_imports_are_absolute_and_without_star():
    faults = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in ALL
        for line, module, name in imports(path)
        if module.startswith(".") or name == "*"
    ]
    assert faults == []


def test_no_name_says_nothing():
    names = {part.removesuffix(".py") for path in ALL for part in path.relative_to(ROOT).parts}
    assert names & FORBIDDEN == set()


def test_rooms_have_depth_one_and_a_mode_may_have_a_folder():
    depths = {path: len(path.relative_to(PACKAGE).parts) for path in MODULES}
    assert max(depth for path, depth in depths.items() if room_of(path) != "engines") == 2
    assert max(depth for path, depth in depths.items() if room_of(path) == "engines") == 3


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_names_its_licence_and_is_no_longer_than_500_lines(path):
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == "# SPDX-License-Identifier: Apache-2.0"
    assert len(lines) <= 500


def test_every_room_is_installed():
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    text = (ROOT / "setup.cfg").read_text("utf-8")
    named = text.partition("packages =\n")[2].partition("\n#")[0].split()
    assert {".".join(folder.parts) for folder in folders} <= set(named)


def test_only_the_command_line_and_the_result_print():
    printing = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printing == MAY_PRINT


def test_nothing_evaluates_text_as_code():
    calls = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*MODULES, *DOORS]
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec"}
    }
    assert calls == set()


def test_no_class_has_the_name_of_another():
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert len(homes) > 100
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_modules_of_one_name_mean_the_same():
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        if path.stem != "__init__":
            homes.setdefault(path.stem, []).append(str(path.relative_to(PACKAGE)))
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert twice.keys() <= SAME_NAME.keys()
    assert SAME_NAME.keys() <= twice.keys()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Place and number of lines of every function of a file."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def test_no_function_is_longer_than_50_lines():
    sources = [path for path in ALL if "tests" not in path.relative_to(ROOT).parts]
    assert [where for path in sources for where, n in functions(path) if n > MOST_LINES] == []


def test_the_package_is_not_cut_too_finely():
    count = sum(1 for path in MODULES for _ in functions(path))
    lines = sum(path.read_text("utf-8").count("\n") for path in MODULES)
    assert 100 * count / lines < MOST_FUNCTIONS


def test_engines_exchange_types_and_no_dictionaries_of_anything():
    paths = [*(PACKAGE / "engines").rglob("*.py"), PACKAGE / "cli.py"]
    assert len(paths) > 20
    assert [path.name for path in paths if "dict[str, Any]" in path.read_text("utf-8")] == []
