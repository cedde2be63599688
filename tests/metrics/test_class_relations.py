# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlex_ml.metrics.class_relations import ClassRelations
from paddlex_ml.metrics.per_class_threshold import LabelSelection, choose

# cat, kitten, dog, puppy, animal: kitten -> cat -> animal, puppy -> dog -> animal; cat or dog.
PETS = ClassRelations(((4,), (0, 4), (4,), (2, 4), ()), ((0, 2),))
NONE = ClassRelations(((),) * 5, ())


@st.composite
def forests(draw: st.DrawFn) -> ClassRelations:
    """Up to ten classes; each implies some earlier ones; groups that nothing contradicts."""
    implied: list[set[int]] = []
    for i in range(draw(st.integers(1, 10))):
        direct = draw(st.sets(st.integers(0, i - 1), max_size=2)) if i else set()
        implied.append(direct.union(*(implied[b] for b in direct)))
    some = st.sets(st.integers(0, len(implied) - 1), min_size=2) if len(implied) > 1 else st.none()
    groups = [each for each in draw(st.lists(some, max_size=4)) if each]
    sound = [g for g in groups if all(len(g & (up | {a})) < 2 for a, up in enumerate(implied))]
    return ClassRelations(
        tuple(tuple(sorted(up)) for up in implied), tuple(tuple(sorted(g)) for g in sound)
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[ClassRelations, np.ndarray, LabelSelection]:
    relations = draw(forests())
    classes = len(relations.implied)
    numbers = st.lists(st.integers(0, 8), min_size=classes, max_size=classes)  # with ties
    scores = np.array(draw(numbers), np.float32) / 8
    thresholds = np.array(draw(numbers), np.float32) / 8
    least = draw(st.integers(0, classes))
    most = draw(st.none() | st.integers(max(1, least), classes + 1))
    return relations, scores, LabelSelection(thresholds, least, most, relations)


@given(cases())
def test_no_labels_violate_a_relation(case):
    relations, scores, selection = case
    found = choose(scores, selection).tolist()
    assert len(set(found)) == len(found)
    assert len(found) <= (selection.max_labels or len(scores))
    for a in found:
        assert set(relations.implied[a]) <= set(found)
        assert all(found.index(b) < found.index(a) for b in relations.implied[a])
    assert all(len(set(group) & set(found)) < 2 for group in relations.exclusive)
    raised = relations.raise_scores(scores)
    assert (np.diff(raised[found]) <= 0).all()


@given(cases())
def test_nothing_that_fits_is_missing(case):
    relations, scores, selection = case
    found = set(choose(scores, selection).tolist())
    raised = relations.raise_scores(scores)
    wanted = {a for a in range(len(scores)) if raised[a] >= selection.thresholds[a]}
    wanted |= {b for a in wanted for b in relations.implied[a]}
    if len(found) == selection.max_labels:
        return
    for a in range(len(scores)):
        if a in found or not (a in wanted or len(found) < selection.min_labels):
            continue
        more = found | {a, *relations.implied[a]}
        rivals = [g for g in relations.exclusive if len(more & set(g)) > 1]
        assert rivals
        # What stands against it is of a score at least as high, or what it needs is missing.
        against = {b for g in rivals for b in set(g) & found}
        needed = {a, *relations.implied[a]}
        lowest = min(raised[i] for i in needed)
        assert max(raised[b] for b in against) >= lowest or a not in wanted


@given(cases())
def test_a_second_choice_among_the_chosen_changes_nothing(case):
    relations, scores, selection = case
    raised = relations.raise_scores(scores)
    assert relations.raise_scores(raised).tolist() == raised.tolist()
    found = choose(scores, selection)
    assert choose(raised, selection).tolist() == found.tolist()
    alone = np.full(len(scores), -1, np.float32)
    alone[found] = raised[found]
    again = LabelSelection(np.zeros(len(scores), np.float32), 0, None, relations)
    assert choose(alone, again).tolist() == found.tolist()


@given(cases())
def test_without_relations_the_labels_are_those_of_the_thresholds(case):
    _, scores, selection = case
    classes = len(scores)
    plain = LabelSelection(selection.thresholds, selection.min_labels, selection.max_labels)
    empty = LabelSelection(
        selection.thresholds,
        selection.min_labels,
        selection.max_labels,
        ClassRelations(((),) * classes, ()),
    )
    assert choose(scores, empty).tolist() == choose(scores, plain).tolist()


@pytest.mark.parametrize(
    ("scores", "thresholds", "least", "most", "expected"),
    [
        # The kitten makes a cat and an animal, although their own scores are low.
        ([0.1, 0.9, 0.2, 0.1, 0.1], 0.5, 0, None, [4, 0, 1]),
        # A chosen kitten brings the cat, although 0.9 does not reach 0.95.
        ([0.1, 0.9, 0.2, 0.1, 0.1], [0.95, 0.5, 0.95, 0.95, 0.95], 0, None, [4, 0, 1]),
        # Cat 0.7 and dog 0.8: the dog stays, and the kitten goes with the cat.
        ([0.2, 0.7, 0.8, 0.1, 0.1], 0.5, 0, None, [4, 2]),
        # Of a limited number what is implied comes first.
        ([0.1, 0.9, 0.2, 0.1, 0.1], 0.5, 0, 2, [4, 0]),
        ([0.1, 0.9, 0.2, 0.1, 0.1], 0.5, 0, 1, [4]),
        # A minimum adds by score what fits: dog and puppy do not fit to the cat.
        ([0.9, 0.1, 0.8, 0.7, 0.1], 0.5, 3, None, [4, 0, 1]),
        ([0.9, 0.1, 0.8, 0.7, 0.1], 0.5, 5, None, [4, 0, 1]),
        ([0.1, 0.0, 0.0, 0.3, 0.0], 0.5, 1, None, [4]),
    ],
)
def test_labels_by_hand(scores, thresholds, least, most, expected):
    limits = np.broadcast_to(np.array(thresholds, np.float32), 5)
    selection = LabelSelection(limits, least, most, PETS)
    assert choose(np.array(scores, np.float32), selection).tolist() == expected


def test_a_chosen_class_limits_what_it_excludes_and_what_implies_that():
    """As in PETS: 0 implies 1, 1 and 2 exclude each other, 3 implies 2."""
    relations = ClassRelations(((1,), (), (), (2,), ()), ((1, 2),))
    scores = np.array([0.1, 0.4, 0.8, 0.3, 0.6])
    limits = relations.find_limits(scores, np.array([2, 4]))
    assert limits == pytest.approx([0.2, 0.2, 1, 1, 1])
    assert relations.find_limits(scores, np.array([4])).tolist() == [1] * 5
    scores = np.array([0.7, 0.9, 0.5, 0.3, 0.6])
    limits = relations.find_limits(scores, np.array([1, 0]))
    assert limits == pytest.approx([1, 1, 0.1, 0.1, 1])


def test_scores_rise_along_implications_in_a_batch():
    scores = np.array([[0.1, 0.9, 0.2, 0.1, 0.1], [0.5, 0.1, 0.1, 0.6, 0.2]], np.float32)
    raised = PETS.raise_scores(scores)
    assert raised.dtype == np.float32
    expected = [[0.9, 0.9, 0.2, 0.1, 0.9], [0.5, 0.1, 0.6, 0.6, 0.6]]
    assert raised.tolist() == np.array(expected, np.float32).tolist()
    assert scores[0, 0] == np.float32(0.1)  # those given stay as they are
    assert NONE.raise_scores(scores).tolist() == scores.tolist()
