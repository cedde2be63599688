# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlex_ml.models import zoo

NAME = "CLIP_vit_base_patch16_448_ML"


@pytest.fixture(scope="module")
def build(refdata):
    """CLIP with the weights of the golden runs; `tokens` may be changed between forward passes."""
    model = zoo.build(NAME, 80, tokens="first_patch")
    refdata.fill_layer(model, NAME)
    model.eval()

    def choose(tokens):
        model.tokens = tokens
        return model

    return choose


def logits(model, batch):
    with paddle.no_grad():
        return model(paddle.to_tensor(batch)).numpy()


@pytest.mark.heavy
def test_logits_at_the_size_of_the_position_embedding_are_the_golden_ones(refdata, build):
    golden = refdata.load_npz("forward", f"{NAME}_224_c80.npz")["logits"]
    found = logits(build("first_patch"), refdata.make_batch(2, 224))
    assert np.abs(found - golden).max() < 1e-4


@pytest.mark.heavy
def test_logits_from_all_patches_are_the_golden_ones(refdata, build):
    golden = refdata.load_npz("forward", f"{NAME}_448_c80.npz")["alt_logits_all_patch_tokens"]
    found = logits(build("all_patches"), refdata.make_batch(2, 448))
    assert np.abs(found - golden).max() < 1e-4


@pytest.mark.parametrize("grid", [(28, 28), (7, 7), (20, 28)])
def test_the_position_embedding_is_resized_as_recorded(refdata, build, grid):
    rows, columns = grid
    golden = refdata.load_npz("forward", "extra.npz")[
        f"pos_embed_resized_{rows}x{columns}_ch_sub64"
    ]
    found = build("first_patch")._positions(rows, columns).numpy()
    assert found.shape == (1, 1 + rows * columns, 768)
    assert np.abs(found[0, :, ::64] - golden).max() < 1e-6


def test_the_head_sees_the_first_patch_or_every_one(build):
    shapes = []
    for tokens in ("first_patch", "all_patches"):
        model = build(tokens)
        hook = model.head.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
        logits(model, np.zeros((1, 3, 96, 64), np.float32))
        hook.remove()
    assert shapes == [[1, 768], [1, 768, 24]]


def test_without_a_word_a_new_model_sees_all_patches():
    assert zoo.build(NAME, 2).tokens == "all_patches"
    assert zoo.find(NAME).published_tokens == "first_patch"


def test_a_side_that_is_no_multiple_of_16_is_padded_with_zeros_at_the_end(build):
    image = np.random.default_rng(0).standard_normal((1, 3, 100, 90)).astype(np.float32)
    padded = np.zeros((1, 3, 112, 96), np.float32)
    padded[:, :, :100, :90] = image
    assert np.array_equal(logits(build("all_patches"), image), logits(build("all_patches"), padded))
