# SPDX-License-Identifier: Apache-2.0
"""Options of a conversion as a user pastes them into a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence


def write_override(key: str, value: str | Sequence[str]) -> str:
    """Write `-o CheckDataset.<key>=<value>` with the quotes that the shell and YAML need."""
    shown = json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False)
    return f"-o CheckDataset.{key}={shlex.quote(shown)}"
