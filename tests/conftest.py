# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data and photographs, which the project's CI has beside the checkout."""
    if not (SHARED / "reference" / "refdata.py").is_file():
        pytest.skip(f"needs the reference data in {SHARED}, which a user's machine does not have")
    return SHARED
