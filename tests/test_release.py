# SPDX-License-Identifier: Apache-2.0
"""What release/release.py refuses, in small clones; `make release` itself takes minutes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from paddlex_ml import __version__
from paddlex_ml.errors import PaddlexMLError
from release import release

LOG = """# Changelog

## [Unreleased]

### Added

## [0.2.0] - 2026-12-01

### Added

- Something.

## [0.1.0] - 2026-11-26

- All.
"""


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "core.hooksPath=none")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose version and changelog are those of 0.2.0."""
    (tmp_path / "paddlex_ml").mkdir()
    (tmp_path / release.HOME).write_text('import os\n\n__version__ = "0.2.0"\n')
    (tmp_path / release.LOG).write_text(LOG)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "Release 0.2.0")
    git(tmp_path, "tag", "v0.1.0")
    return tmp_path


def commit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))
    git(root, "commit", "--quiet", "-am", "Change")


def refusal(root: Path, version: str) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        release.validate(root, version)
    return str(caught.value)


def test_a_clone_that_is_ready_passes(clone: Path) -> None:
    release.validate(clone, "0.2.0")


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ("next", "'next' is no version by PEP 440"),
        ("", "'' is no version by PEP 440"),
        ("0.2", "the version of the package is 0.2.0, not 0.2"),
        ("v0.2.0", "v0.2.0 is not the normal spelling of a public version"),
        ("0.2.0+mine", "0.2.0+mine is not the normal spelling of a public version"),
        ("0.3.0", "the version of the package is 0.2.0, not 0.3.0"),
    ],
)
def test_versions_that_are_not_the_package_s_are_refused(
    clone: Path, version: str, what: str
) -> None:
    assert refusal(clone, version).startswith(what)


def test_changes_that_are_not_committed_are_named(clone: Path) -> None:
    (clone / "new.py").touch()
    assert "not committed:\n?? new.py" in refusal(clone, "0.2.0")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("## [0.2.0] - 2026-12-01", "### Changed", "no section [0.2.0]"),
        (" - 2026-12-01", "", "the section [0.2.0] has no date"),
        ("### Added\n\n## [0.2.0]", "- New.\n\n## [0.2.0]", "there are entries above"),
        ("## [0.1.0]", "## [0.2.1]", "0.2.0 is not greater than 0.2.1"),
    ],
)
def test_a_changelog_without_this_release_on_top_is_refused(
    clone: Path, old: str, new: str, what: str
) -> None:
    commit(clone, release.LOG, old, new)
    assert refusal(clone, "0.2.0").startswith(what)


@pytest.mark.parametrize("tag", ["v0.2.0", "v0.10.0"])
def test_a_version_that_is_not_greater_than_the_tagged_ones_is_refused(
    clone: Path, tag: str
) -> None:
    git(clone, "tag", tag)
    assert f"0.2.0 is not greater than {tag[1:]}" in refusal(clone, "0.2.0")


def test_the_version_has_one_home_and_the_changelog_its_section() -> None:
    assert release.read_version(release.ROOT) == __version__
    sections = release.SECTION.findall((release.ROOT / release.LOG).read_text("utf-8"))
    assert sections[0] == ("Unreleased", "")
    assert __version__ in dict(sections)
    assert all(date for name, date in sections if name != "Unreleased")
