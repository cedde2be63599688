# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from paddlex_ml.artifacts import git_state

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

WHO = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *WHO, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings nor the variables of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit of a text and of a binary file."""
    root = tmp_path / "a repository"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a.txt").write_text("one\n")
    (root / "b.bin").write_bytes(bytes(range(256)))
    (root / "inside").mkdir()
    (root / "inside" / "c.txt").write_text("c\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_a_clean_folder_has_its_commit_alone(repository: Path) -> None:
    for folder in (repository, repository / "inside"):
        found = git_state.describe(folder)
        assert found.commit == git(repository, "rev-parse", "HEAD")
        assert (found.is_dirty, found.difference, found.note) == (False, None, "")


def test_the_working_folder_is_the_usual_one(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert git_state.describe() == git_state.describe(repository)


def test_each_difference_has_a_digest_of_its_own(repository: Path) -> None:
    def change(name: str, content: bytes, *then: str) -> str:
        (repository / name).write_bytes(content)
        if then:
            git(repository, *then)
        found = git_state.describe(repository)
        assert (found.is_dirty, found.note) == (True, "")
        assert found.difference is not None
        return found.difference

    digests = [
        change("a.txt", b"two\n"),
        change("a.txt", b"three\n"),
        change("b.bin", bytes(256)),
        change("b.bin", bytes([1]) * 256),
        change("inside/c.txt", b"d\n", "add", "inside/c.txt"),
        change("a.txt", b"line\n" * 400_000),  # too large to be compared line by line
        change("a.txt", b"line\n" * 399_999 + b"lino\n"),
    ]
    assert len(set(digests)) == 7
    assert git_state.describe(repository).difference == digests[-1]


def test_what_git_does_not_track_and_a_new_time_are_no_difference(repository: Path) -> None:
    (repository / "notes.txt").write_text("mine")
    os.utime(repository / "a.txt", (1, 1))
    assert git_state.describe(repository).is_dirty is False


def test_a_setting_about_the_mode_of_files_holds(repository: Path) -> None:
    (repository / "a.txt").chmod(0o755)
    assert git_state.describe(repository).is_dirty is True
    git(repository, "config", "core.filemode", "false")
    assert git_state.describe(repository).is_dirty is False


def test_no_program_is_started_that_a_repository_names(repository: Path) -> None:
    marker, program = repository.parent / "started", repository.parent / "program"
    program.write_text(f'#!/bin/sh\necho "$0" >> "{marker}"\ncat\n')
    program.chmod(0o755)
    hooks = repository / ".git" / "hooks"
    shutil.rmtree(hooks, ignore_errors=True)
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "post-checkout", "pre-commit"):
        shutil.copy(program, hooks / name)
    for key in (
        *("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "core.askPass"),
        *("diff.external", "diff.x.command", "diff.x.textconv", "filter.x.clean"),
        *("filter.x.smudge", "filter.x.process", "credential.helper", "gpg.program", "pager.diff"),
        *("alias.diff", "alias.rev-parse", "interactive.diffFilter", "uploadpack.packObjectsHook"),
    ):
        value = f"!{program}" if key.startswith(("alias", "credential")) else str(program)
        git(repository, "config", key, value)
    git(repository, "config", "filter.x.required", "true")
    (repository / ".gitattributes").write_text("*.txt filter=x diff=x\n*.bin diff=x\n")
    (repository / "a.txt").write_text("changed, and longer\n")
    marker.unlink(missing_ok=True)  # the commands above may have started them
    subprocess.run(["git", "diff", "HEAD"], cwd=repository, capture_output=True, check=False)
    assert marker.is_file()  # plain git does
    marker.unlink()
    found = git_state.describe(repository)
    assert (found.is_dirty, found.note) == (True, "")
    assert not marker.exists()


def test_a_remote_with_a_password_leaves_no_trace(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:SESAME@host/a.git")
    (repository / "a.txt").write_text("two\n")
    assert "SESAME" not in repr(git_state.describe(repository))


def test_what_is_no_repository_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state.describe(tmp_path).note == "the folder belongs to no git repository"
    git(tmp_path, "init", "-q", "empty")
    assert git_state.describe(tmp_path / "empty").note == "the repository has no commit"
    git(tmp_path, "init", "-q", "--bare", "bare")
    assert "without files" in git_state.describe(tmp_path / "bare").note
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert git_state.describe(tmp_path).note == "git is not installed"
    assert git_state.describe(tmp_path / "gone").note.startswith("git ")


def test_a_program_in_the_folder_itself_is_not_git(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: str(repository / name))
    assert git_state.describe(repository).note == "git is not installed"


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert git_state.describe().note.startswith("git cannot be asked: ")


def test_the_repository_of_another_user_is_not_read(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = git_state.describe(repository)
    assert found.commit is None
    assert "another user" in found.note


def test_a_worktree_and_sha_256_are_known(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert git_state.describe(tmp_path / "tree").is_dirty is False
    (tmp_path / "tree" / "a.txt").write_text("longer than before\n")
    assert git_state.describe(tmp_path / "tree").is_dirty is True
    git(tmp_path, "init", "-q", "--object-format=sha256", "new")
    (tmp_path / "new" / "a.txt").write_text("one\n")
    git(tmp_path / "new", "add", ".")
    git(tmp_path / "new", "commit", "-qm", "first")
    found = git_state.describe(tmp_path / "new")
    assert (len(found.commit or ""), found.is_dirty) == (64, False)


def test_a_damaged_repository_keeps_its_commit(repository: Path) -> None:
    (repository / ".git" / "index").write_bytes(b"no index")
    found = git_state.describe(repository)
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert (found.is_dirty, found.note) == (None, "git cannot compare the files with the commit")


def test_an_index_of_any_size_is_not_copied(repository: Path) -> None:
    os.truncate(repository / ".git" / "index", 100 << 30)
    found = git_state.describe(repository)
    assert found.commit is not None
    assert found.note == "git cannot be asked: File too large"


def test_a_git_that_does_not_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    found = git_state.describe(tmp_path, limit=0.1)
    assert found.note == "git gave no answer within 0.1 s"
