# SPDX-License-Identifier: Apache-2.0
"""What the head of a model sees of the image, where the configuration says so too."""

from __future__ import annotations

from paddlex_ml.config.schema import Config
from paddlex_ml.errors import PaddlexMLError


def refuse_others(config: Config, tokens: str | None, where: str) -> None:
    """Raise PaddlexMLError when Train.decoder_tokens is set to another choice than the model's."""
    wanted = config.Train.decoder_tokens
    if None not in (wanted, tokens) and wanted != tokens:
        raise PaddlexMLError(
            f"the head of this model sees {tokens}, Train.decoder_tokens is {wanted}",
            where=where,
            fix="-o Train.decoder_tokens=null",
        )
