# SPDX-License-Identifier: Apache-2.0
"""What every model owes: the published names, shapes, logits, starts, and that it can learn."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast, get_args, get_type_hints

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.config import schema, shipped
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import published, zoo
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.optimizer import build_optimizer
from tests.shallow import blank_models, narrow_models, shallow_models

CLIP = "CLIP_vit_base_patch16_448_ML"
CLASSES = 80
HEAVY = {CLIP, "PP-HGNetV2-B4_ML", "PP-HGNetV2-B6_ML"}


def each(names):
    """Parametrize a test by the names of models; the heavy ones are marked."""
    marks = {name: [pytest.mark.heavy] if name in HEAVY else [] for name in names}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=m) for n, m in marks.items()])


every_model = each(zoo.MODEL_SPECS)
every_published_model = each(published.MODELS)


def build(name, num_classes, num_queries=None):
    """Build the model as the published weights have it."""
    return zoo.build(name, num_classes, num_queries, tokens=zoo.find(name).published_tokens)


def build_light(name, num_classes, num_queries=None):
    """Build the model with all its kinds of layers, but of few weights."""
    # The twelve blocks of CLIP are alike.
    with shallow_models() if name == CLIP else narrow_models():
        return zoo.build(name, num_classes, num_queries)


@pytest.fixture(scope="module")
def recorded(refdata):
    """Entries of the published state_dict, by name of the model."""
    return {name: refdata.load_json("state_dict", f"{name}.json") for name in published.MODELS}


def test_each_model_has_a_file_and_six_are_published():
    assert set(zoo.MODEL_SPECS) == set(shipped.MODELS) >= set(published.MODELS)
    assert len(published.MODELS) == 6


def test_the_schema_knows_the_choices_of_tokens():
    choosers = tuple(name for name in zoo.MODEL_SPECS if zoo.find(name).tokens)
    assert choosers == schema.TOKEN_MODELS
    hints = get_type_hints(schema.TrainConfig)["decoder_tokens"]
    spelt = {word for hint in get_args(hints) for word in get_args(hint)}
    assert all(spelt == set(zoo.find(name).tokens) for name in choosers)


def test_another_choice_of_tokens_is_refused():
    with pytest.raises(PaddlexMLError, match="cannot use the tokens 'last_patch'") as caught:
        zoo.build(CLIP, 2, tokens="last_patch")
    assert caught.value.fix == "choose from all_patches, first_patch"
    with pytest.raises(PaddlexMLError, match="cannot use the tokens 'first_patch'"):
        zoo.build("ResNet50_ML", 2, tokens="first_patch")


@every_published_model
@pytest.mark.parametrize(("num_classes", "num_queries"), [(80, None), (33, None), (80, 10)])
def test_names_order_shapes_and_frozen_entries_are_the_published_ones(
    recorded, name, num_classes, num_queries
):
    key = "class_num_33" if num_classes == 33 else "class_num_80_query_num_10"
    changed = (
        {}
        if (num_classes, num_queries) == (80, None)
        else {entry["name"]: entry["shape"] for entry in recorded[name][key]["entries_that_differ"]}
    )
    expected = [
        (
            entry["name"],
            changed.get(entry["name"], entry["shape"]),
            f"paddle.{entry['dtype']}",
            entry["trainable"],
        )
        for entry in recorded[name]["entries"]
    ]
    with blank_models():
        state = build(name, num_classes, num_queries).state_dict()
    assert len(expected) == recorded[name]["totals"]["entries"] > 160
    found = [
        (entry, list(value.shape), str(value.dtype), not value.stop_gradient)
        for entry, value in state.items()
    ]
    assert found == expected


@every_published_model
def test_parameter_counts_are_the_published_ones(recorded, name):
    totals = recorded[name]["totals"]
    with blank_models():
        model = build(name, CLASSES)
    parameters = [p for n, p in model.named_parameters() if "._" not in n]
    assert sum(p.size for p in parameters) == totals["parameters"]
    assert sum(p.size for p in parameters if not p.stop_gradient) == totals["trainable_parameters"]


@every_published_model
def test_rates_and_weight_decay_are_the_published_ones(recorded, name):
    with blank_models():
        model = build(name, 3)
    lr_mult = partial(zoo.find(name).lr_mult, head=1.0)
    optimizer = build_optimizer(model, weight_decay=1e-4, lr_mult=lr_mult)
    names = {p.name: entry for entry, p in model.named_parameters()}
    decays_at_all: Any = optimizer._apply_decay_param_fun
    rates, decays = {}, set()
    for parameter in cast(list[Any], optimizer._parameter_list):
        entry = names[parameter.name]
        rates[entry] = parameter.optimize_attr["learning_rate"]
        decays |= {entry} if decays_at_all(parameter.name) else set()
    trainable = [entry for entry in recorded[name]["entries"] if entry["trainable"]]
    assert rates == {entry["name"]: entry["lr_mult"] for entry in trainable}
    assert decays == {entry["name"] for entry in trainable if entry["adamw_weight_decay"]}
    assert (0.01 in rates.values()) == (name == "PP-HGNetV2-B0_ML")


@every_published_model
def test_logits_and_what_the_head_sees_and_makes_are_the_golden_ones(refdata, name):
    golden = refdata.load_npz("forward", f"{name}_448_c80.npz")
    with blank_models():
        model = build(name, CLASSES)
    refdata.fill_layer(model, name)
    model.eval()
    head = model.head if name == CLIP else model.fc
    seen, made = [], []
    head.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].numpy()))
    head.decoder.register_forward_post_hook(lambda layer, _, output: made.append(output.numpy()))
    with paddle.no_grad():
        logits = model(paddle.to_tensor(refdata.make_batch(2, 448))).numpy()
    assert np.abs(logits - golden["logits"]).max() < 1e-4
    sample = seen[0] if name == CLIP else seen[0][:, ::64, ::4, ::4]
    assert np.abs(sample - golden["decoder_in_sample"]).max() < 1e-3  # values up to 146
    assert np.abs(made[0][:, ::8, ::16] - golden["decoder_out_sample"]).max() < 1e-4


@every_published_model
def test_initial_values_have_the_published_distributions(refdata, name):
    paddle.seed(5)
    state = build(name, CLASSES).state_dict()
    expected = refdata.load_json("state_dict", "init_stats.json")[name]
    assert [entry["name"] for entry in expected] == list(state)
    for entry in expected:
        values, kind = state[entry["name"]].numpy().astype(np.float64), entry["kind"]
        where = entry["name"]
        if kind.startswith("constant"):
            assert (values == float(kind.split()[1])).all(), where
            continue
        # Two samples of n values: their spreads differ by about 1 / sqrt(n) of themselves.
        assert values.std() == pytest.approx(entry["std"], rel=6 / math.sqrt(values.size)), where
        assert abs(values.mean()) < 6 * entry["std"] / math.sqrt(values.size), where
        if kind in ("normal", "uniform"):  # "truncated/other": one stray 2.0 among thousands
            fourth = np.vdot(values**2, values**2) / values.size
            kurtosis = fourth / values.std() ** 4  # 3 normal, 1.8 uniform
            assert kurtosis == pytest.approx({"normal": 3.0, "uniform": 1.8}[kind], abs=0.3), where


@every_model
def test_every_trainable_parameter_gets_a_gradient(name):
    model = build_light(name, 2)
    asymmetric_loss(model(paddle.randn([2, 3, 64, 64])), paddle.eye(2)).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None and "._" not in n]
    frozen = ["head.query_pos_embed.weight", "proj"]  # `proj` leads to CLIP's text side
    assert sorted(without) == (frozen if name == CLIP else ["fc.query_pos_embed.weight"])


@every_model
def test_one_batch_can_be_overfitted(name):
    paddle.seed(1)
    with shallow_models():
        model = zoo.build(name, 2)
    rate, head = (2e-5, 1.0) if name == CLIP else (5e-4, 0.03)
    optimizer = build_optimizer(
        model, weight_decay=0.0, lr_mult=partial(zoo.find(name).lr_mult, head=head)
    )
    optimizer.set_lr(rate)
    images = nn.functional.interpolate(paddle.randn([2, 3, 2, 2]), size=[64, 64])
    targets = paddle.eye(2)
    losses = []
    while len(losses) < 60 and (not losses or losses[-1] > 0.05 * losses[0]):
        loss = asymmetric_loss(model(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    assert losses[0] > 1
    assert losses[-1] < 0.05 * losses[0]


@every_model
def test_group_decoding_gives_every_class_a_logit(name):
    model = build_light(name, 33, 10)
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.zeros([1, 3, 64, 64]))
    assert logits.shape == [1, 33]
