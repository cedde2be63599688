# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.losses import asymmetric_loss
from paddlex_ml.models import zoo
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.schedule import warmup_cosine

NAME = "PP-LCNet_x1_0_ML"


def golden_model(refdata, num_classes, num_queries=None):
    """Build the model with the weights of the golden runs."""
    model = zoo.build(NAME, num_classes, num_queries)
    refdata.fill_layer(model, NAME)
    return model


def without_dropout(model):
    for layer in model.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        elif isinstance(layer, nn.MultiHeadAttention):
            layer.dropout = 0.0
    return model


@pytest.fixture(scope="module")
def reference(refdata):
    return refdata.load_json("state_dict", f"{NAME}.json")


@pytest.mark.parametrize(("num_classes", "num_queries"), [(80, None), (33, None), (80, 10)])
def test_names_order_shapes_and_frozen_entries_are_the_published_ones(
    reference, num_classes, num_queries
):
    key = "class_num_33" if num_classes == 33 else "class_num_80_query_num_10"
    changed = (
        {}
        if num_queries is None and num_classes == 80
        else {entry["name"]: entry["shape"] for entry in reference[key]["entries_that_differ"]}
    )
    expected = [
        (entry["name"], changed.get(entry["name"], entry["shape"]), entry["trainable"])
        for entry in reference["entries"]
    ]
    state = zoo.build(NAME, num_classes, num_queries).state_dict()
    assert len(expected) == 167
    found = [(name, list(value.shape), not value.stop_gradient) for name, value in state.items()]
    assert found == expected


@pytest.mark.parametrize(
    ("num_classes", "total", "trainable"), [(80, 8293808, 8232368), (33, 8221569, 8196225)]
)
def test_parameter_counts(num_classes, total, trainable):
    parameters = [
        p for name, p in zoo.build(NAME, num_classes).named_parameters() if "._" not in name
    ]
    assert sum(p.size for p in parameters) == total
    assert sum(p.size for p in parameters if not p.stop_gradient) == trainable


@pytest.mark.parametrize(
    ("size", "num_classes", "num_queries"),
    [
        (448, 80, None),
        (224, 80, None),
        (224, 33, None),
        (448, 33, None),
        (224, 80, 10),
        (448, 80, 10),
        (224, 33, 10),
    ],
)
def test_logits_are_the_golden_ones(refdata, size, num_classes, num_queries):
    tail = f"_q{num_queries}" if num_queries else ""
    golden = refdata.load_npz("forward", f"{NAME}_{size}_c{num_classes}{tail}.npz")["logits"]
    model = golden_model(refdata, num_classes, num_queries)
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(refdata.make_batch(2, size)))
    assert np.abs(logits.numpy() - golden).max() < 1e-4


def test_initial_values_have_the_published_distributions(refdata, reference):
    paddle.seed(5)
    state = zoo.build(NAME, 80).state_dict()
    for expected in refdata.load_json("state_dict", "init_stats.json")[NAME]:
        values = state[expected["name"]].numpy().astype(np.float64)
        kind, where = expected["kind"], expected["name"]
        if kind.startswith("constant"):
            assert (values == float(kind.split()[1])).all(), where
            continue
        # Two samples of n values: their spreads differ by about 1 / sqrt(n) of themselves.
        assert values.std() == pytest.approx(expected["std"], rel=6 / math.sqrt(values.size)), where
        assert abs(values.mean()) < 6 * expected["std"] / math.sqrt(values.size), where
        if kind != "small":
            kurtosis = (values**4).mean() / values.std() ** 4  # 3 normal, 1.8 uniform
            assert kurtosis == pytest.approx({"normal": 3.0, "uniform": 1.8}[kind], abs=0.3), where


@pytest.mark.parametrize("case", ["eval_bn_448_c80", "eval_bn_224_c33", "train_bn_224_c33"])
def test_loss_gradients_and_running_statistics_are_the_golden_ones(refdata, case):
    golden = refdata.load_json("forward", "train_golden.json")[case]
    batch_norm, _, size, classes = case.split("_")
    num_classes = int(classes[1:])
    model = without_dropout(golden_model(refdata, num_classes))
    # The slope of hardswish jumps: one feature beside a jump moves the float32 gradients of the
    # first layers by 0.2 % from one processor to the next. In float64 none falls on the other side.
    model.to(dtype="float64")
    model.train() if batch_norm == "train" else model.eval()
    logits = model(paddle.to_tensor(refdata.make_batch(2, int(size)).astype("float64")))
    loss = asymmetric_loss(logits, paddle.to_tensor(refdata.make_targets(2, num_classes)))
    loss.backward()

    expected = refdata.load_npz("forward", "train_golden.npz")[f"{case}_logits"]
    assert np.abs(logits.numpy() - expected).max() < 1e-4
    assert float(loss) == pytest.approx(golden["loss"], rel=1e-5)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for name, norm in golden["grad_norm"].items():
        gradient = gradients[name].numpy().ravel()
        # A bias of the keys moves all attention weights alike: its gradient is rounding, no more.
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=1e-3, abs=1e-5), name
        typical = norm / math.sqrt(gradient.size)
        close = pytest.approx(golden["grad_head"][name], rel=1e-3, abs=1e-2 * typical + 1e-6)
        assert gradient[:6].tolist() == close, name
    total = math.sqrt(sum(float((g.numpy() ** 2).sum()) for g in gradients.values()))
    assert total == pytest.approx(golden["total_grad_norm"], rel=1e-3)
    assert set(golden["no_grad"]).isdisjoint(gradients)
    state = model.state_dict()
    for name, head in golden.get("running_after", {}).items():
        assert state[name].numpy().ravel()[:6].tolist() == pytest.approx(head, rel=1e-5), name


def compare(values, wanted):
    """Compare norm, sum and first values with what the golden file tells of one entry."""
    values = values.astype(np.float64).ravel()
    norm = wanted["norm"]
    assert np.linalg.norm(values) == pytest.approx(norm, rel=1e-3)
    spread = 1e-4 * norm * math.sqrt(values.size)  # of a sum of n values that are 1e-4 off
    assert values.sum() == pytest.approx(wanted["sum"], rel=1e-3, abs=spread)
    count = len(wanted["head"])
    assert values[:count].tolist() == pytest.approx(wanted["head"], rel=1e-3, abs=1e-3 * norm)


def test_eight_steps_of_training_follow_the_golden_trajectory(refdata):
    golden = refdata.load_json("forward", "train_golden.json")["trajectory"]
    model = without_dropout(golden_model(refdata, 33))
    schedule = warmup_cosine(1e-3, epochs=2, steps_per_epoch=4, warmup_epochs=1)
    optimizer = build_optimizer(model, weight_decay=1e-4)
    targets = refdata.make_targets(32, 33)
    # The golden average has a fixed decay; `training.ema` warms up, so average here by hand.
    average = {name: value.numpy() for name, value in model.state_dict().items()}
    losses, after = [], {}
    for step in range(8):
        model.train()
        images = np.stack([refdata.make_input(i, 224) for i in range(4 * step, 4 * step + 4)])
        loss = asymmetric_loss(
            model(paddle.to_tensor(images)), paddle.to_tensor(targets[4 * step : 4 * step + 4])
        )
        loss.backward()
        optimizer.set_lr(schedule.rate(step))
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
        now = {name: value.numpy() for name, value in model.state_dict().items()}
        average = {name: 0.9 * average[name] + 0.1 * now[name] for name in now}
        after[step + 1] = (now, average)

    assert [schedule.rate(step) for step in range(8)] == pytest.approx(golden["lr"], rel=1e-12)
    assert losses == pytest.approx(golden["loss"], rel=1e-3)
    for step in (1, 8):
        for kind, weights in zip(("model", "ema"), after[step], strict=True):
            for name, wanted in golden[f"{kind}_after_step_{step}"].items():
                compare(weights[name], wanted)
    golden_logits = refdata.load_npz("forward", "train_golden.npz")
    model.eval()
    images = paddle.to_tensor(refdata.make_batch(2, 224))
    for kind, weights in zip(("model", "ema"), after[8], strict=True):
        model.set_state_dict({name: paddle.to_tensor(value) for name, value in weights.items()})
        with paddle.no_grad():
            logits = model(images).numpy()
        expected = golden_logits[f"trajectory_eval_logits_{kind}"]
        assert logits.ravel().tolist() == pytest.approx(
            expected.ravel().tolist(), rel=2e-2, abs=2e-2
        )


def test_every_trainable_parameter_gets_a_gradient_and_one_batch_can_be_overfitted():
    paddle.seed(1)
    model = zoo.build(NAME, 4)
    optimizer = build_optimizer(model, weight_decay=0.0)
    optimizer.set_lr(2e-4)  # without a warm-up 5e-4 already kills it
    images = paddle.randn([4, 3, 64, 64])
    targets = paddle.eye(4)
    losses = []
    for step in range(20):
        loss = asymmetric_loss(model(images), targets)
        loss.backward()
        if step == 0:
            without = [n for n, p in model.named_parameters() if p.grad is None]
            assert [n for n in without if "._" not in n] == ["fc.query_pos_embed.weight"]
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    assert losses[0] > 2
    assert max(losses[-3:]) < 0.05 * losses[0]
