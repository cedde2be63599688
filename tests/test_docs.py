# SPDX-License-Identifier: Apache-2.0
"""Pages of docs/ that repeat what the code says: they must say the same."""

from __future__ import annotations

import configparser
import inspect
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from packaging.utils import canonicalize_name

from paddlex_ml.config import export_schema, load, shipped, values
from paddlex_ml.data import near_duplicates
from paddlex_ml.formats import registry
from website import hooks

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    page for folder in (".", "docs", "website") for page in sorted((ROOT / folder).glob("*.md"))
]
HISTORY = ROOT / "CHANGELOG.md"
"""Its sections name files as they were called at the time."""
TOPS = (
    *("paddlex_ml", "tests", "docs", "configs", "dataset_tools", "benchmarks", "release"),
    *("website", ".ci"),
)
TO_BE_WRITTEN = {"paddlex_ml/models/resnet18.py"}
"""Files that a page asks its reader to write."""


@pytest.mark.parametrize("source", registry.FORMATS)
def test_the_rules_of_each_format_are_those_of_its_reader(source: str) -> None:
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    told = inspect.getdoc(registry.FORMATS[source].module)
    assert told is not None
    assert f"### {source}\n\n{told.partition(chr(10) * 2)[2]}\n" in page


def test_the_limits_of_twins_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    assert f"differ in {near_duplicates.MOST_BITS} bits at most" in page
    assert f"correlation of\n  {near_duplicates.AGREEMENT} at least" in page


def test_the_job_for_kubernetes_is_yaml_that_takes_each_line_of_the_dry_run() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    [text] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    job = yaml.safe_load(text)
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    [container] = job["spec"]["template"]["spec"]["containers"]
    mounts = {each["name"] for each in container["volumeMounts"]}
    assert mounts == {each["name"] for each in job["spec"]["template"]["spec"]["volumes"]}
    assert "JOB_COMPLETION_INDEX + 1" in container["args"][0]


def test_each_package_that_an_installation_brings_is_written_down() -> None:
    """A new one needs a reason in docs/decisions.md, and a new run of the script."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    lines = settings["options"]["install_requires"] + settings["options.extras_require"]["cpu"]
    required = {canonicalize_name(re.split(r"[\[<>=]", line)[0]) for line in lines.split()}
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8").partition("\n## Installation\n")[2]
    rows = re.findall(r"^\| ([\w-]+) \|.*\| this project\b", page.partition("\n## ")[0], re.M)
    assert set(rows) == required
    reasons = (ROOT / "docs" / "decisions.md").read_text("utf-8").partition("## Dependencies")[2]
    said = {canonicalize_name(name) for name in re.findall(r"[\w-]+", reasons)}
    assert required - said == {"paddlepaddle"}


def test_no_required_package_is_without_use() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    lines = settings["options"]["install_requires"].split()
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "paddlex_ml").rglob("*.py"))
    for name in (re.split(r"[\[<>=]", line)[0] for line in lines):
        tops = {Path(str(file)).parts[0] for file in metadata.files(name) or []}
        modules = {re.escape(top.removesuffix(".py")) for top in tops if top.isidentifier()}
        found = rf"^\s*(import|from) ({'|'.join(modules)})\b|files\(\"({'|'.join(modules)})\""
        assert re.search(found, code, re.M), name


def test_every_tool_is_named() -> None:
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    for tool in (ROOT / "dataset_tools").glob("[!_]*.py"):
        assert f"`{tool.name}" in page


def test_every_setting_in_a_command_about_learning_is_one_that_loads() -> None:
    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    model, train = "PP-LCNet_x1_0_ML", ["Global.mode=train", "Global.dataset_dir=my_set"]
    commands = re.findall(r"^paddlex-ml \.\.\. (.+)$", page, re.MULTILINE)
    for command in commands:
        words = shlex.split(command)
        assert words[::2] == ["-o"] * (len(words) // 2)
        config = load.load(shipped.find(model)[0], [*train, *words[1::2]]).config
        assert config.Global.mode == "train"
    assert len(commands) >= 9


def test_the_page_on_exports_names_each_format_and_the_range_of_opset() -> None:
    page = (ROOT / "docs" / "export.md").read_text("utf-8")
    kinds = get_type_hints(export_schema.ExportConfig, include_extras=True)
    for name in get_args(kinds["format"]):
        assert f"\n| `{name}` | " in page
        assert f"Export.format={name} " in page or name == export_schema.ExportConfig.format
    limits = next(item for item in kinds["opset"].__metadata__ if isinstance(item, values.Range))
    assert f"version of the operators, {limits.low} to {limits.high}. The default, " in page
    assert f"The default, {export_schema.OPSET}, is" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_link_of_a_page_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    tops = "|".join(map(re.escape, TOPS))
    named = set(re.findall(rf"(?<![\w./-])(?:{tops})/[\w./-]*[\w/]", text)) - TO_BE_WRITTEN
    paths = [ROOT / name for name in named] if page != HISTORY else []
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    paths += [page.parent / link for link in links if "://" not in link]
    assert [str(path) for path in paths if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_anchor_of_a_link_is_a_heading(page: Path) -> None:
    text = page.read_text("utf-8")
    links = [(name, anchor) for name, anchor in hooks.LINK.findall(text) if anchor]
    for name, anchor in links:
        if "://" not in name:
            target = page.parent / name if name else page
            assert anchor in hooks.anchors(target.read_text("utf-8")), (name, anchor)
    own = hooks.anchors(text)
    assert page == HISTORY or len(set(own)) == len(own)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """In both languages, in the same order."""
    navigations = []
    for name in ("mkdocs", "mkdocs_zh"):
        settings = yaml.safe_load((ROOT / "website" / f"{name}.yml").read_text("utf-8"))
        navigations.append(list(hooks.titles(settings["nav"])))
    pages = {path.name for path in (ROOT / "docs").glob("*.md") if not path.stem.endswith("_zh")}
    chinese = hooks.titles(settings["nav"])
    for name, title in chinese.items():  # the last settings are the Chinese ones
        has_twin = hooks.source_of(name, "zh") != hooks.source_of(name, "en")
        assert title.endswith("（英文）") != (has_twin or name == "glossary.md"), name
    assert navigations[0] == navigations[1]
    assert sorted(navigations[0]) == sorted(pages | {*hooks.ELSEWHERE.values()})


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CONTRIBUTING_zh.md"])
def test_every_name_that_contributing_gives_to_a_file_stands_in_it(page: str) -> None:
    """A line that names one Python file and one name of code, as "`FILE`: a row in `NAME`"."""
    found = 0
    for line in re.split(r"\n(?=\S)", (ROOT / page).read_text("utf-8")):
        files = re.findall(r"`(paddlex_ml/[\w/]+\.py)`", line)
        names = re.findall(r"`([A-Z_]{4,}|[A-Z][a-z]+[A-Z]\w+|_\w+|fingerprint)`", line)
        code = "".join((ROOT / file).read_text("utf-8") for file in files)
        assert [name for name in names if files and not re.search(rf"\b{name}\b", code)] == []
        found += bool(files and names)
    assert found >= 8
    for target in ("help", "docs", "quick", "test", "check", "coverage", "release"):
        assert f"make {target}" in (ROOT / page).read_text("utf-8")
        assert f"\n{target}: " in (ROOT / "Makefile").read_text("utf-8")


def test_every_function_that_the_architecture_names_stands_in_its_file() -> None:
    """As in "`paddlex_ml/config/load.py`: `load` merges ..."."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    pairs = re.findall(r"`(paddlex_ml/[\w/]+\.py)`(?::|,)?\s+\(?`(\w+)`", text)
    assert len(pairs) >= 6
    for file, name in pairs:
        assert re.search(
            rf"^\s*(?:def |class )?{name}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE
        ), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_extras_stand_in_quotes_because_zsh_expands_brackets(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"pip install (?:-e )?[^\s'\"`]*\[[a-z,]+\]", text) == []
