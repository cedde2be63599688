# SPDX-License-Identifier: Apache-2.0
"""What can be measured: the exports of a model, and the run modes of this machine that read them.

Every format of `EXPORTS` and every mode of `MODES_OF` is here, measured or with the reason why not.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import paddle

from paddlex_ml import devices, program, systems
from paddlex_ml.artifacts.benchmark_result import Unmeasured
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.inference_yml import InferenceYml
from paddlex_ml.artifacts.run_folder import EXPORTS, INFERENCE_YML, RunFolder
from paddlex_ml.config import rules, validation
from paddlex_ml.config.export_schema import OPSET
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.engines import load_model
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import onnx
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.export.static import save_static
from paddlex_ml.inference import model_files
from paddlex_ml.run_modes import DEVICE_OF, MODES_OF, PACKAGE_OF
from paddlex_ml.storage import fetch
from paddlex_ml.wording import literal_path, path_override

_KEY = "Export.weight_path"
_BFLOAT16 = "avx512bw"  # without it runtimes compute in float32, whatever they are asked for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """An export in one run mode."""

    format: str
    """A key of `EXPORTS`."""
    run_mode: str
    folder: Path
    is_temporary: bool
    """Whether it was exported for the benchmark alone."""
    described: InferenceYml
    """What its inference.yml says."""

    @property
    def name(self) -> str:
        """Format and run mode, as messages have them."""
        return f"{self.format} by {self.run_mode}"

    @property
    def bytes(self) -> int:
        """Size of the graph and its weights."""
        parts = [path for path in self.folder.glob("inference.*") if path.name != INFERENCE_YML]
        return sum(path.stat().st_size for path in parts)


@dataclass(frozen=True)
class Exports:
    """The exports of one model."""

    weights: Path
    """The file that they are made from; it may be gone."""
    folders: dict[str, Path]
    """Key of `EXPORTS` -> the folder."""
    temporary: frozenset[str]
    """Keys of those that were made for the benchmark alone."""
    unmeasured: list[Unmeasured]
    """Those that are not there."""


def find_exports(config: Config, aside: Path) -> Exports:
    """The exports beside the weights; those that are made in seconds are made in `aside`.

    Raises PaddlexMLError where there are neither weights nor exports.
    """
    text, output = config.Export.weight_path, config.Global.output
    best = RunFolder(output).best_model
    weights = best.weights if text is None else Path(os.path.abspath(text))
    is_url = text is not None and fetch.is_url(text)
    beside = output if is_url else weights.parent
    folders = {name: beside / folder for name, folder in EXPORTS.items()}
    there = {name: path for name, path in folders.items() if path.is_dir()}
    folders = {name: path for name, path in there.items() if model_files.is_model(path)}
    if not folders or is_url or weights.is_file():
        source = load_model.load(config, text, _KEY)  # raises where there are none
        weights = source.path
    else:
        logger.warning("%s is gone: only the exports beside it are measured", weights)
        source = None
    temporary, unmeasured = set[str](), list[Unmeasured]()
    for name in EXPORTS:
        if name in folders or _is_refused(config, name):
            continue
        command = "" if source is None else _write_export(config, name)
        reason, make = "not exported", _MAKERS.get(name)
        if source is not None and make is not None:
            try:
                logger.info("exporting %s for the benchmark alone", name)
                make(source.model, source.info, aside / EXPORTS[name])
                folders[name] = aside / EXPORTS[name]
                temporary.add(name)
                continue
            except PaddlexMLError as error:
                reason, command = error.what, error.fix
            except RuntimeError as error:
                reason = f"the export fails: {str(error).strip().splitlines()[0][:200]}"
        unmeasured.append(Unmeasured(format=name, run_mode=None, reason=reason, fix=command))
    return Exports(weights, folders, frozenset(temporary), unmeasured)


def _save_onnx(model: paddle.nn.Layer, info: ModelInfo, folder: Path) -> None:
    onnx.require()
    devices.use("cpu")  # it is compared there, in full float32
    save_onnx(model, info, folder, OPSET)


_MAKERS: dict[str, Callable[[paddle.nn.Layer, ModelInfo, Path], object]] = {
    "paddle": save_static,
    "onnx": _save_onnx,
}
"""Key of `EXPORTS` -> what makes it in seconds."""


def find(exports: Exports, device: str) -> tuple[list[Candidate], list[Unmeasured]]:
    """What can be measured on a device, `cpu` or `gpu:0`, in the order of `EXPORTS`; and what not.

    Not in the second: exports that are not there. The first one is what the others are compared
    with: float32 by plain Paddle, where there is such an export. Raises PaddlexMLError where
    nothing can be measured.
    """
    found, unmeasured = list[Candidate](), list[Unmeasured]()
    usual: InferenceYml | None = None
    for name in (name for name in EXPORTS if name in exports.folders):
        folder = exports.folders[name]
        try:
            described = model_files.find(folder, None).describe()
        except PaddlexMLError as error:
            unmeasured.append(
                Unmeasured(format=name, run_mode=None, reason=error.what, fix=error.fix)
            )
            continue
        usual = usual or described
        is_other = described.label_names != usual.label_names
        is_other |= described.preprocess != usual.preprocess
        for mode in MODES_OF[name.partition(" ")[0]]:
            obstacle = _find_obstacle(mode, device)
            if is_other:
                reason = f"{INFERENCE_YML} has other classes or another preprocessing than that of "
                obstacle = f"{reason}{found[0].format}", "export it again" if found else ""
            if obstacle is None:
                found.append(Candidate(name, mode, folder, name in exports.temporary, described))
            else:
                reason, fix = obstacle
                unmeasured.append(Unmeasured(format=name, run_mode=mode, reason=reason, fix=fix))
    if not found:
        fixes = [each.fix for each in unmeasured if each.fix]
        told = "; ".join(f"{each.name}: {each.reason}" for each in unmeasured)
        raise PaddlexMLError(
            f"no export of this model can be measured here: {told}",
            where=str(exports.weights),
            fix=fixes[0] if fixes else f"export it: {override('Global.mode', 'export')}",
        )
    return found, unmeasured


def _find_obstacle(mode: str, device: str) -> tuple[str, str] | None:
    """Why this machine cannot run a mode, and what to do; None: it can."""
    wanted, kind = DEVICE_OF.get(mode), device.partition(":")[0]
    if wanted is not None and wanted != kind:
        return f"made for a {wanted.upper()}; measured on {device}", ""
    package = PACKAGE_OF.get(mode)
    if package is not None and importlib.util.find_spec(package) is None:
        return "not installed", program.pip_install(package)
    if mode.endswith("_bf16") and not _has_bfloat16():
        return "this processor has no AVX-512, without which it would be float32", ""
    return None


def _has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor computes in bfloat16; True where the system does not tell."""
    with suppress(OSError):
        lines = cpuinfo.read_text(errors="replace").splitlines()
        flags = [line for line in lines if line.startswith("flags")]
        return not flags or _BFLOAT16 in flags[0].split()
    return True


def _is_refused(config: Config, name: str) -> bool:
    """Whether the configuration refuses such an export: a format may not have every precision."""
    form, _, precision = name.partition(" ")
    for key, value in (("mode", "export"), ("format", form), ("precision", precision or "fp32")):
        section = "Global" if key == "mode" else "Export"
        config = validation.with_value(config, f"{section}.{key}", value)
    faults = rules.broken(config, set(), to_run=True)
    return any(fault.key in ("Export.format", "Export.precision") for fault in faults)


def _write_export(config: Config, name: str) -> str:
    """The command that makes an export beside the weights."""
    form, _, precision = name.partition(" ")
    run, text = RunFolder(config.Global.output), config.Export.weight_path
    words = ["-c", config.Global.model, "-o", f"Global.output={literal_path(run.output)}"]
    if run.config_yaml.is_file():
        words = ["-c", literal_path(run.config_yaml)]
    if precision:
        words += ["-o", f"Global.dataset_dir={config.Global.dataset_dir}"]
    parts = [systems.join(words), override("Global.mode", "export")]
    parts += [override("Export.format", form)]
    parts += [override("Export.precision", precision)] if precision else []
    if text is not None:
        is_url = fetch.is_url(text)
        parts.append(override(_KEY, text) if is_url else path_override(_KEY, Path(text)))
    return f"{program.command()} {' '.join(parts)}"
