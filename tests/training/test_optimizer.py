# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import _C_ops, nn

from paddlex_ml.models.ml_decoder import MLDecoder
from paddlex_ml.training.optimizer import build_optimizer, load_state, save_state


class Net(nn.Layer):
    """Convolution, batch norm and a decoder head: every kind of parameter that models have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, bias_attr=False)
        self.bn = nn.BatchNorm2D(8)
        self.fc = MLDecoder(3, 8)

    def forward(self, images):
        return self.fc(self.bn(self.conv(images)))


def step(model, optimizer, seed, rate=1e-2):
    paddle.seed(seed)
    images = paddle.to_tensor(np.random.default_rng(seed).standard_normal((2, 3, 6, 6)), "float32")
    model(images).square().sum().backward()
    optimizer.set_lr(rate)
    optimizer.step()
    optimizer.clear_grad()


def slow_head(entry):
    return 0.1 if entry.startswith("fc.") else 1.0


def weights(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def test_one_step_by_hand():
    model = nn.Linear(2, 1)
    model.weight.set_value(paddle.to_tensor([[1.0], [2.0]]))
    model.bias.set_value(paddle.to_tensor([3.0]))
    optimizer = build_optimizer(model, weight_decay=0.1)
    (model(paddle.to_tensor([[1.0, -1.0]])).sum()).backward()  # gradients 1, -1 and 1
    optimizer.set_lr(0.01)
    optimizer.step()
    # The first step of Adam is the sign times the rate; the matrix decays by rate * 0.1 before.
    assert model.weight.numpy().ravel().tolist() == pytest.approx([0.999 - 0.01, 1.998 + 0.01])
    assert model.bias.numpy().tolist() == pytest.approx([3.0 - 0.01])


def test_entries_learn_at_their_own_multiple_of_the_rate():
    def steps_of_the_first_update(**options):
        paddle.seed(0)
        model = Net()
        before = weights(model)
        optimizer = build_optimizer(model, weight_decay=0.0, **options)
        step(model, optimizer, 0, rate=0.01)
        after = weights(model)
        return {
            name: np.abs(after[name] - before[name]).max()
            for name, p in model.named_parameters()
            if not p.stop_gradient
        }

    # Adam's first step is the rate wherever there is a gradient.
    uniform = steps_of_the_first_update()
    apart = steps_of_the_first_update(lr_mult=slow_head)
    assert uniform["conv.weight"] == apart["conv.weight"] == pytest.approx(0.01, rel=1e-2)
    assert uniform["fc.group_conv.weight"] == pytest.approx(0.01, rel=1e-2)
    ratios = {name: apart[name] / uniform[name] for name in uniform if uniform[name] > 1e-3}
    assert {n for n in ratios if not n.startswith("fc.")} >= {"conv.weight", "bn.bias"}
    assert len([n for n in ratios if n.startswith("fc.")]) > 10
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(0.1 if name.startswith("fc.") else 1.0, rel=1e-2), name


def test_decay_follows_the_multiple():
    paddle.seed(0)
    model = Net()
    before = weights(model)
    optimizer = build_optimizer(model, weight_decay=0.5, lr_mult=slow_head)
    (model(paddle.zeros([2, 3, 6, 6])).sum() * 0).backward()
    optimizer.set_lr(0.1)
    optimizer.step()
    for name, kept in (("conv.weight", 0.95), ("fc.group_conv.weight", 0.995)):
        assert weights(model)[name] / before[name] == pytest.approx(kept, rel=1e-5)


def test_one_dimensional_parameters_do_not_decay():
    paddle.seed(0)
    model = Net()
    optimizer = build_optimizer(model, weight_decay=0.5)
    before = weights(model)
    (model(paddle.zeros([2, 3, 6, 6])).sum() * 0).backward()  # no gradient: decay alone acts
    optimizer.set_lr(0.1)
    optimizer.step()
    shrunk = {
        name
        for name, value in model.named_parameters()
        if not np.allclose(value.numpy(), before[name]) and not value.stop_gradient
    }
    assert shrunk == {n for n, p in model.named_parameters() if p.ndim != 1 and not p.stop_gradient}
    factor = model.conv.weight.numpy() / before["conv.weight"]
    assert factor.ravel().tolist() == pytest.approx([0.95] * factor.size, rel=1e-5)


def test_the_frozen_queries_are_never_touched():
    model = Net()
    before = model.fc.query_pos_embed.weight.numpy()
    optimizer = build_optimizer(model, weight_decay=0.5)
    for seed in range(3):
        step(model, optimizer, seed)
    assert np.array_equal(model.fc.query_pos_embed.weight.numpy(), before)
    assert not any("query_pos_embed" in key for key in save_state(optimizer, model))


def test_a_new_model_with_other_internal_names_goes_on_bit_for_bit():
    paddle.seed(0)
    model = Net()
    optimizer = build_optimizer(model, weight_decay=0.01, lr_mult=slow_head)
    for seed in range(3):
        step(model, optimizer, seed)
    saved, state = weights(model), save_state(optimizer, model)
    for seed in range(3, 6):
        step(model, optimizer, seed)

    nn.Conv2D(1, 1, 1)  # the counter behind Paddle's names goes on
    other = Net()
    assert other.conv.weight.name != model.conv.weight.name
    other.set_state_dict({name: paddle.to_tensor(value) for name, value in saved.items()})
    resumed = build_optimizer(other, weight_decay=0.01, lr_mult=slow_head)
    load_state(resumed, other, state)
    for seed in range(3, 6):
        step(other, resumed, seed)
    for name, value in weights(model).items():
        assert np.array_equal(weights(other)[name], value), name
    again = save_state(resumed, other)
    expected = save_state(optimizer, model)
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[key], expected[key]) for key in expected)


def test_the_state_is_saved_by_the_models_own_names():
    model = Net()
    optimizer = build_optimizer(model, weight_decay=0.01)
    step(model, optimizer, 0)
    state = save_state(optimizer, model)
    trainable = [name for name, p in model.named_parameters() if not p.stop_gradient]
    assert {key.split("/")[0] for key in state} == set(trainable)
    kinds = {key.split("/")[1] for key in state if key.startswith("conv.weight/")}
    assert kinds == {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
    assert len(state) == 4 * len(trainable)
    assert all(isinstance(value, np.ndarray) for value in state.values())


def test_clipping_shortens_all_gradients_by_one_factor():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    optimizer = build_optimizer(
        model, weight_decay=0.0, clip_norm=1.0, lr_mult=lambda e: 0.5 if e[0] == "1" else 1.0
    )
    for number, (_, parameter) in enumerate(model.named_parameters()):
        parameter.grad = paddle.full(parameter.shape, 2.0 if number < 2 else 4.0)
    optimizer.set_lr(0.0)
    optimizer.step()
    # The norm of (2, 2, 4, 4) is sqrt(40), over both multiples of the rate; moment 1 is a tenth.
    state = save_state(optimizer, model)
    moments = [float(state[f"{n}/moment1_0"].item()) for n, _ in model.named_parameters()]
    assert moments == pytest.approx([0.1 * g / 40**0.5 for g in (2, 2, 4, 4)], rel=1e-5)


def test_short_gradients_are_not_clipped():
    def weights_after_three_steps(clip_norm):
        paddle.seed(0)
        model = Net()
        optimizer = build_optimizer(model, weight_decay=0.01, clip_norm=clip_norm)
        for seed in range(3):
            step(model, optimizer, seed)
        return weights(model)

    free, loose, tight = map(weights_after_three_steps, (None, 1e9, 1e-3))
    assert all(np.array_equal(free[name], loose[name]) for name in free)
    assert not np.array_equal(free["conv.weight"], tight["conv.weight"])


def test_parameters_without_gradient_do_not_disturb_clipping():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(2, 1))
    model[1].weight.stop_gradient = True  # for ever
    optimizer = build_optimizer(model, weight_decay=0.5, clip_norm=1.0)
    model[2].bias.stop_gradient = True  # for a while
    before = weights(model)
    model[0](paddle.to_tensor([[3.0, 4.0]])).sum().backward()  # gradients 3, 4 and 1
    optimizer.set_lr(0.1)
    optimizer.step()
    optimizer.clear_grad()
    moved = {name for name, value in weights(model).items() if (value != before[name]).any()}
    assert moved == {"0.weight", "0.bias"}
    moment = save_state(optimizer, model)["0.weight/moment1_0"].ravel()
    assert moment.tolist() == pytest.approx([0.3 / 26**0.5, 0.4 / 26**0.5], rel=1e-5)


def test_moments_that_are_not_there_yet_begin_as_at_a_first_step():
    paddle.seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(model, weight_decay=0.1)
    rows = paddle.to_tensor([[1.0, -2.0]])

    def learn(model, optimizer, layer):
        model[layer](rows).square().sum().backward()
        optimizer.set_lr(0.1)
        optimizer.step()
        optimizer.clear_grad()

    learn(model, optimizer, 0)
    saved, state = weights(model), save_state(optimizer, model)
    assert {key.split("/")[0] for key in state} == {"0.weight", "0.bias"}
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other.set_state_dict({name: paddle.to_tensor(value) for name, value in saved.items()})
    resumed = build_optimizer(other, weight_decay=0.1)
    load_state(resumed, other, state)
    for layer in (0, 1, 0, 1):
        learn(model, optimizer, layer)
        learn(other, resumed, layer)
    expected, again = save_state(optimizer, model), save_state(resumed, other)
    assert len(expected) == 16
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[key], expected[key]) for key in expected)
    for name, value in weights(model).items():
        assert np.array_equal(weights(other)[name], value), name


def test_float32_masters_of_16_bit_weights_are_restored_with_their_moments(monkeypatch):
    # A CPU cannot update bfloat16: only what the optimizer makes and restores is looked at.
    monkeypatch.setattr(_C_ops, "adamw_", lambda *args: (None,) * 7)

    def build():
        model = nn.Linear(3, 2)
        model.to(dtype="bfloat16")
        optimizer = build_optimizer(model, weight_decay=0.1)
        optimizer._multi_precision = True  # as paddle.amp.decorate does
        return model, optimizer

    model, optimizer = build()
    model.weight.astype("float32").sum().backward()  # the bias has no moments yet
    optimizer.step()
    state = save_state(optimizer, model)
    state["master_weights"]["weight"] = np.full([3, 2], 1.001, np.float32)
    state["weight/fp32_master_0_moment1_0"] = np.full([3, 2], 0.25, np.float32)

    other, resumed = build()
    load_state(resumed, other, state)
    (other.weight.astype("float32").sum() + other.bias.astype("float32").sum()).backward()
    resumed.step()
    again = save_state(resumed, other)
    assert (again["master_weights"]["weight"] == np.float32(1.001)).all()
    assert (again["weight/fp32_master_0_moment1_0"] == 0.25).all()
    assert (again["bias/fp32_master_0_moment1_0"] == 0).all()
    assert again["bias/fp32_master_0_beta2_pow_acc_0"] == np.float32(0.999)
