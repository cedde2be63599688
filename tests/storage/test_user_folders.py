# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from paddlex_ml.storage import user_folders


@pytest.mark.parametrize("kind", ["cache", "config", "state"])
def test_the_folders_are_those_of_the_system(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(f"XDG_{kind.upper()}_HOME", raising=False)
    found = user_folders.find(kind, "a")  # type: ignore[arg-type]
    assert found is not None
    assert found.name == "a"
    if os.name == "posix" and os.uname().sysname == "Linux":
        expected = {"cache": ".cache/a", "config": ".config/a", "state": ".local/state/a"}
        assert found == tmp_path / expected[kind]


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> str:
        raise RuntimeError("could not determine the home directory for '~/.cache'")

    monkeypatch.setattr(platformdirs.PlatformDirs, "user_cache_dir", property(refuse))
    assert user_folders.find("cache", "a") is None
    monkeypatch.setattr(platformdirs.PlatformDirs, "user_cache_dir", "~/.cache/a")
    assert user_folders.find("cache", "a") is None
