# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.models import zoo
from paddlex_ml.models.ml_decoder import MLDecoder
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.freeze import backbone_entries, set_frozen
from paddlex_ml.training.optimizer import build_optimizer, load_state, save_state

FROZEN_EPOCHS, EPOCHS, STEPS = 2, 4, 3
KINDS = ("weight", "bias")


class Net(nn.Layer):
    """A backbone with batch norm and dropout, one parameter of its own, and a decoder head."""

    def __init__(self):
        super().__init__()
        self.shift = self.create_parameter([1])
        self.body = nn.Sequential(nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.Dropout(0.1))
        self.fc = MLDecoder(3, 8, 2)

    def forward(self, images):
        return self.fc(self.body(images + self.shift))


class Run:
    """A training by hand, as the loop does it: what is frozen depends on the epoch alone."""

    def __init__(self):
        self.model = Net()
        self.names = backbone_entries(self.model, "fc.")
        self.optimizer = build_optimizer(
            self.model,
            weight_decay=0.1,
            clip_norm=50.0,
            lr_mult=lambda entry: 0.5 if entry.startswith("fc.") else 1.0,
        )
        self.ema = Ema(self.model, 0.9)

    def train_epoch(self, epoch):
        self.model.train()
        set_frozen(self.model, self.names, epoch < FROZEN_EPOCHS)
        for step in range(STEPS):
            number = epoch * STEPS + step
            paddle.seed(number)
            rng = np.random.default_rng(number)
            images = paddle.to_tensor(rng.standard_normal((2, 3, 6, 6)), "float32")
            self.model(images).square().sum().backward()
            self.optimizer.set_lr(1e-2)
            self.optimizer.step()
            self.optimizer.clear_grad()
            self.ema.update(self.model)
        self.model.eval()

    def weights(self):
        return arrays(self.model.state_dict())


def arrays(state):
    return {name: value.numpy() for name, value in state.items()}


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.fixture
def run():
    paddle.seed(7)
    return Run()


def test_while_frozen_only_the_head_moves_and_afterwards_all_that_can_learn(run):
    before = run.weights()
    for epoch in range(FROZEN_EPOCHS):
        run.train_epoch(epoch)
    frozen = run.weights()
    moved = changed(before, frozen)
    assert len(moved) > 10
    assert all(name.startswith("fc.") for name in moved)
    for epoch in range(FROZEN_EPOCHS, EPOCHS):
        run.train_epoch(epoch)
    backbone = {name for name in frozen if not name.startswith("fc.")}
    assert {"shift", "body.0.weight", "body.1.weight", "body.1._mean"} <= backbone
    assert changed(frozen, run.weights()) >= backbone
    assert np.array_equal(
        run.weights()["fc.query_pos_embed.weight"], before["fc.query_pos_embed.weight"]
    )


def test_frozen_parameters_get_no_gradient_and_no_moments(run):
    run.train_epoch(0)
    parameters = dict(run.model.named_parameters())
    assert run.names == {"shift", *(f"body.{k}.{kind}" for k in (0, 1) for kind in KINDS)}
    assert all(parameters[name].grad is None for name in run.names)
    owners = {key.split("/")[0] for key in save_state(run.optimizer, run.model)}
    assert owners.isdisjoint(run.names)
    run.train_epoch(FROZEN_EPOCHS)
    state = save_state(run.optimizer, run.model)
    assert {key.split("/")[0] for key in state} >= run.names
    powers = {
        name: state[f"{name}/beta1_pow_acc_0"].item()
        for name in ("body.0.weight", "fc.group_conv.weight")
    }
    assert powers["body.0.weight"] == pytest.approx(0.9 ** (STEPS + 1))  # begins when it thaws
    assert powers["fc.group_conv.weight"] == pytest.approx(0.9 ** (2 * STEPS + 1))


@pytest.mark.parametrize("stop", range(1, EPOCHS))
def test_a_resume_before_at_and_after_the_thaw_goes_on_bit_for_bit(run, stop):
    for epoch in range(stop):
        run.train_epoch(epoch)
    saved, moments = run.weights(), save_state(run.optimizer, run.model)
    average, updates = arrays(run.ema.weights), run.ema.updates
    for epoch in range(stop, EPOCHS):
        run.train_epoch(epoch)

    resumed = Run()
    for name, value in resumed.model.state_dict().items():
        value.set_value(saved[name])
    load_state(resumed.optimizer, resumed.model, moments)
    for name, value in average.items():
        resumed.ema.weights[name].set_value(value)
    resumed.ema.updates = updates
    for epoch in range(stop, EPOCHS):
        resumed.train_epoch(epoch)
    assert changed(run.weights(), resumed.weights()) == set()
    assert changed(arrays(run.ema.weights), arrays(resumed.ema.weights)) == set()
    states = save_state(run.optimizer, run.model), save_state(resumed.optimizer, resumed.model)
    assert states[0].keys() == states[1].keys()
    assert changed(*states) == set()


def test_a_checkpoint_written_before_the_first_step_after_a_resume_is_sound_too(run):
    run.train_epoch(0)
    moments = save_state(run.optimizer, run.model)
    second = Run()
    load_state(second.optimizer, second.model, moments)
    again = save_state(second.optimizer, second.model)
    assert {key.split("/")[0] for key in again} == {
        name for name, p in second.model.named_parameters() if not p.stop_gradient
    }
    assert all(np.array_equal(again[key], moments[key]) for key in moments)


def test_the_average_stays_with_what_is_frozen_and_follows_it_afterwards(run):
    before = run.weights()
    for epoch in range(FROZEN_EPOCHS):
        run.train_epoch(epoch)
    average = arrays(run.ema.weights)
    assert all(np.array_equal(average[name], before[name]) for name in run.names)
    statistics = average["body.1._variance"]
    assert statistics.tolist() == pytest.approx(before["body.1._variance"].tolist(), rel=1e-5)

    run.model.train()
    set_frozen(run.model, run.names, False)
    run.model.shift.set_value(run.model.shift + 11.0)
    run.ema.update(run.model)
    decay = min(0.9, (1 + run.ema.updates) / (10 + run.ema.updates))
    expected = before["shift"] + 11.0 * (1 - decay)
    assert run.ema.weights["shift"].numpy().tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_layers_sleep_while_frozen_but_not_the_dropout_between(run):
    run.model.train()
    set_frozen(run.model, run.names, True)
    modes = {name: layer.training for name, layer in run.model.named_sublayers()}
    assert {name for name, training in modes.items() if not training} == {
        "body",
        "body.0",
        "body.1",
    }
    assert run.model.training
    set_frozen(run.model, run.names, False)
    assert all(layer.training for layer in run.model.sublayers())
    run.model.eval()
    set_frozen(run.model, run.names, False)
    assert not any(layer.training for layer in run.model.sublayers())


def test_freezing_nothing_changes_nothing(run):
    run.model.train()
    set_frozen(run.model, frozenset(), True)
    assert all(layer.training for layer in run.model.sublayers())
    assert sum(not p.stop_gradient for p in run.model.parameters()) == len(run.names) + sum(
        not p.stop_gradient for p in run.model.fc.parameters()
    )


@pytest.mark.parametrize("name", ["PP-LCNet_x1_0_ML", "CLIP_vit_base_patch16_448_ML"])
def test_the_backbone_of_a_model_is_all_but_its_head(name):
    paddle.seed(0)
    model = zoo.build(name, 2)
    head = zoo.find(name).head
    names = backbone_entries(model, head)
    learning = {n for n, p in model.named_parameters() if not p.stop_gradient}
    assert names == {n for n in learning if not n.startswith(head)}
    assert len(names) > 50
    model.train()
    set_frozen(model, names, True)
    left = {n for n, p in model.named_parameters() if not p.stop_gradient}
    assert left == learning - names
    norms = [
        layer
        for n, layer in model.named_sublayers()
        if isinstance(layer, nn.BatchNorm2D | nn.LayerNorm) and not n.startswith(head)
    ]
    assert len(norms) > 20
    assert not any(layer.training for layer in norms)
    set_frozen(model, names, False)
    assert {n for n, p in model.named_parameters() if not p.stop_gradient} == learning
    assert all(layer.training for layer in model.sublayers())
