# SPDX-License-Identifier: Apache-2.0
"""Write the shipped YAML files: `python -m paddlex_ml.config.write_yaml`.

Comments and most values come from the schema. The values that differ from it are in two tables.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields
from decimal import Decimal
from itertools import pairwise
from typing import Any, get_type_hints

from paddlex_ml.config import (
    augment_schema,
    benchmark_schema,
    distillation_schema,
    export_schema,
    predict_schema,
    schema,
    shipped,
    yaml_text,
)
from paddlex_ml.config.validation import is_section
from paddlex_ml.models import published

_COLUMNS = 100

COMMON = {
    "Global.mode": "check_dataset",
    "Train.learning_rate": 1e-3,
    "Train.head_lr_mult": 0.03,
    "Train.warmup_steps": 0.5,
}
"""Values of all models for which the schema has another default, or none."""

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "PP-LCNet_x1_0_ML": (
        "the smallest and fastest of the six, for CPUs and phones.",
        {"Train.batch_size": 32},
    ),
    "PP-HGNetV2-B0_ML": (
        "small, a little more accurate than PP-LCNet.",
        {"Train.batch_size": 64},
    ),
    "PP-HGNetV2-B4_ML": (
        "medium size: accurate, for one GPU.",
        {"Train.batch_size": 64},
    ),
    "PP-HGNetV2-B6_ML": (
        "the most accurate and the largest convolutional one, for GPUs.",
        {"Train.batch_size": 16},
    ),
    "ResNet50_ML": (
        "the classic backbone, to compare with other work.",
        {"Train.batch_size": 64},
    ),
    "CLIP_vit_base_patch16_448_ML": (
        "a vision transformer, strong with CLIP weights, for GPUs.",
        {"Train.batch_size": 16, "Train.learning_rate": 5e-5, "Train.head_lr_mult": 1.0},
    ),
}
"""Model -> its title, and its values that differ from those of COMMON and of the schema."""

_HEAD = """\
# {model}: {title}
#
#   paddlex-ml -c {model} -o Global.mode=train -o Global.dataset_dir=my_set
#
# Every key can also be set on the command line: -o Section.key=value. null means "not set".
"""


def render(model: str) -> str:
    """The text of the file for `model`: every key of the schema, each below its comment."""
    title, differences = MODELS[model]
    is_published = model in published.MODELS
    values = {
        **COMMON,
        "Global.model": model,
        "Train.pretrain_weight_path": published.weights_url(model) if is_published else None,
        **differences,
    }
    comments = _read_comments()
    parts = [_HEAD.format(model=model, title=title)]
    for name, section in get_type_hints(schema.Config).items():
        parts.append("\n".join(_section_lines(section, name, values, comments)) + "\n")
    return "\n".join(parts)


def _read_comments() -> dict[str, str]:
    """`Class.field` of the schema -> the docstring below that field, on one line."""
    modules = (
        *(schema, augment_schema, distillation_schema, export_schema),
        *(benchmark_schema, predict_schema),
    )
    comments, sources = {}, map(inspect.getsource, modules)
    for section in (node for source in sources for node in ast.parse(source).body):
        if isinstance(section, ast.ClassDef):
            for item, below in pairwise(section.body):
                match item, below:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                        comments[f"{section.name}.{name}"] = " ".join(text.split())
    return comments


def _section_lines(
    section: type, name: str, values: Mapping[str, Any], comments: Mapping[str, str]
) -> Iterator[str]:
    """The lines of one section, whose dotted name is `name`, and of the sections inside it."""
    indent = "  " * name.count(".")
    yield f"{indent}{name.rpartition('.')[2]}:"
    indent += "  "
    hints = get_type_hints(section)
    for item in fields(section):
        key, kind = f"{name}.{item.name}", hints[item.name]
        if is_section(kind):
            yield from _section_lines(kind, key, values, comments)
            continue
        start = f"{indent}# "
        yield from textwrap.wrap(
            comments[f"{section.__name__}.{item.name}"],
            _COLUMNS,
            initial_indent=start,
            subsequent_indent=start,
            break_long_words=False,
            break_on_hyphens=False,
        )
        value = values.get(key, item.default)
        if isinstance(value, float):  # 0.00005 and 4 instead of 5e-05 and 4.0
            text = f"{Decimal(repr(value)).normalize():f}"
        else:
            text = yaml_text.write_inline(value)
        yield f"{indent}{item.name}: {text}"


if __name__ == "__main__":
    for model in MODELS:
        path = shipped.folder() / f"{model}.yaml"
        path.write_text(render(model), encoding="utf-8", newline="\n")
