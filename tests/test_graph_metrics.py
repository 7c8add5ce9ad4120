"""Losses and metrics of graphs: the authors' values, scikit-learn's, and that missing targets count nowhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from graphs import graph_metrics as gm
from tests.parity import check

GOLDEN = Path(__file__).parent / "golden" / "graphs"
Loss = Callable[[Tensor, Tensor], Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def classes(rows: int, count: int, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).integers(count, size=rows)).double()


# Each loss with predictions and targets that fit it.
LOSSES: dict[str, tuple[Loss, Tensor, Tensor]] = {
    "absolute": (gm.absolute_loss, drawn(12, 3), drawn(12, 3, seed=1)),
    "binary": (gm.binary_loss, drawn(12, 4), classes(48, 2).view(12, 4)),
    "class": (gm.class_loss, drawn(12, 5), classes(12, 5)),
    "weighted": (gm.weighted_class_loss, drawn(12, 5), classes(12, 5)),
    "weighted-binary": (gm.weighted_class_loss, drawn(12), classes(12, 2)),
}


def test_losses_and_accuracies_of_the_authors_code() -> None:
    result = check(GOLDEN / "sbm_loss_and_accuracy.safetensors")
    assert result.passed, str(result)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_targets_change_no_loss_and_get_no_gradient(name: str) -> None:
    loss, predicted, targets = LOSSES[name]
    missing = targets.clone()
    missing[[1, 4, 5]] = torch.nan
    predicted = predicted.clone().requires_grad_()
    value = loss(predicted, missing)
    value.backward()
    there = ~missing.isnan()
    if there.dim() == 2:
        there = there.all(dim=1)
    assert torch.allclose(value, loss(predicted.detach()[there], targets[there]))
    assert predicted.grad is not None
    assert (predicted.grad[[1, 4, 5]] == 0).all() and (predicted.grad[there] != 0).any(dim=-1).all()


@pytest.mark.parametrize("name", ["absolute", "binary"])
def test_single_missing_labels_are_masked(name: str) -> None:
    loss, predicted, targets = LOSSES[name]
    missing = targets.clone()
    missing[2, 1] = missing[7, 0] = torch.nan
    predicted = predicted.clone().requires_grad_()
    loss(predicted, missing).backward()
    assert predicted.grad is not None and torch.equal(predicted.grad == 0, missing.isnan())


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_any_target_loses_nothing(name: str) -> None:
    loss, predicted, targets = LOSSES[name]
    predicted = predicted.clone().requires_grad_()
    value = loss(predicted, torch.full_like(targets, torch.nan))
    value.backward()
    assert value == 0 and predicted.grad is not None and (predicted.grad == 0).all()


def test_losses_are_the_plain_ones_where_nothing_is_missing() -> None:
    for name, plain in (
        ("absolute", functional.l1_loss),
        ("binary", functional.binary_cross_entropy_with_logits),
        ("class", lambda logits, labels: functional.cross_entropy(logits, labels.long())),
    ):
        loss, predicted, targets = LOSSES[name]
        assert torch.allclose(loss(predicted, targets), plain(predicted, targets)), name


# The weighted loss (specification, property 18)


def test_balanced_classes_weigh_alike() -> None:
    labels = torch.arange(12.0).double() % 4
    logits = drawn(12, 4)
    assert torch.allclose(gm.weighted_class_loss(logits, labels), functional.cross_entropy(logits, labels.long()))
    two = torch.arange(12.0).double() % 2
    plain = functional.binary_cross_entropy_with_logits(logits[:, 0], two)
    assert torch.allclose(gm.weighted_class_loss(logits[:, 0], two), plain / 2)


def test_a_rare_class_weighs_as_much_as_the_rest_is_large() -> None:
    labels = torch.tensor([0.0] * 9 + [1.0]).double()
    logits = drawn(10, 2)
    weights = torch.tensor([0.1] * 9 + [0.9]).double()
    each = functional.cross_entropy(logits, labels.long(), reduction="none")
    assert torch.allclose(gm.weighted_class_loss(logits, labels), (weights * each).sum() / weights.sum())


@pytest.mark.parametrize("logits", [drawn(8, 6), drawn(8)])
def test_absent_classes_and_a_single_one_give_no_nan(logits: Tensor) -> None:
    for labels in (classes(8, 2), torch.ones(8).double()):
        leaf = logits.clone().requires_grad_()
        value = gm.weighted_class_loss(leaf, labels)
        value.backward()
        assert leaf.grad is not None and torch.isfinite(value) and torch.isfinite(leaf.grad).all()


# A class that is absent (specification, property 22)


def test_an_absent_class_is_only_pushed_down_and_weighs_nothing() -> None:
    """By hand: the others' weights and errors do not know of it, but their chances share with it."""
    logits, labels = drawn(9, 4), torch.tensor([0.0, 0, 0, 0, 0, 3, 3, 3, 3]).double()  # classes 1 and 2 are absent
    each = -logits.log_softmax(dim=1)[torch.arange(9), labels.long()]
    weights = torch.where(labels == 0, 4 / 9, 5 / 9).double()
    wanted = {gm.class_loss: each.mean(), gm.weighted_class_loss: (weights * each).sum() / weights.sum()}
    for loss, value in wanted.items():
        leaf = logits.clone().requires_grad_()
        found = loss(leaf, labels)
        found.backward()
        assert torch.allclose(found, value) and leaf.grad is not None
        assert (leaf.grad[:, 1:3] > 0).all() and (leaf.grad[:5, 0] < 0).all() and (leaf.grad[5:, 3] < 0).all()


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_batch_of_one_label_trains_towards_it(label: float) -> None:
    """The binary loss has no weights, so a batch without positives, the usual one of rare labels, still counts."""
    leaf = drawn(6, 1).requires_grad_()
    gm.binary_loss(leaf, torch.full((6, 1), label).double()).backward()
    assert leaf.grad is not None and (leaf.grad.sign() == (1 - 2 * label)).all()


# Metrics


def test_metrics_are_those_of_scikit_learn() -> None:
    from sklearn import metrics as theirs

    scores, labels = drawn(60, 5), classes(300, 2, seed=2).view(60, 5)
    scores[:20] = scores[:20].round()  # ties
    labels[classes(300, 5, seed=3).view(60, 5) == 0] = torch.nan
    seen = [~column.isnan() for column in labels.T]

    def mean(metric: Callable[..., float]) -> float:
        return float(np.mean([metric(labels[s, i].numpy(), scores[s, i].numpy()) for i, s in enumerate(seen)]))

    assert gm.mean_average_precision(scores, labels) == pytest.approx(mean(theirs.average_precision_score))
    assert gm.mean_area_under_curve(scores, labels) == pytest.approx(mean(theirs.roc_auc_score))
    values = drawn(60, 5, seed=4)
    assert gm.explained_variance(scores, values) == pytest.approx(theirs.r2_score(values, scores))
    assert gm.mean_absolute_error(scores, values) == pytest.approx(theirs.mean_absolute_error(values, scores))
    told, true = classes(60, 4, seed=5), classes(60, 4, seed=6)
    assert gm.accuracy(told, true) == pytest.approx(theirs.accuracy_score(true, told))
    assert gm.class_mean_accuracy(told, true) == pytest.approx(theirs.balanced_accuracy_score(true, told))


def test_labels_without_both_classes_are_skipped() -> None:
    scores, labels = drawn(20, 3), classes(60, 2).view(20, 3)
    without = torch.stack((labels[:, 0], torch.zeros(20), torch.full((20,), torch.nan), labels[:, 2]), dim=1)
    beside = torch.stack((scores[:, 0], scores[:, 1], scores[:, 1], scores[:, 2]), dim=1)
    for metric in (gm.mean_average_precision, gm.mean_area_under_curve):
        assert metric(beside, without) == pytest.approx(metric(scores[:, [0, 2]], labels[:, [0, 2]]))
        assert np.isnan(metric(scores[:, :1], torch.ones(20, 1)))


def test_metrics_leave_missing_targets_out() -> None:
    told, true = classes(30, 3, seed=1), classes(30, 3, seed=2)
    gap = true.clone()
    gap[10:] = torch.nan
    for metric in (gm.accuracy, gm.class_mean_accuracy, gm.mean_absolute_error):
        assert metric(told, gap) == pytest.approx(metric(told[:10], true[:10]))
        assert np.isnan(metric(told, torch.full_like(true, torch.nan)))
    predicted, values = drawn(30, 2), drawn(30, 2, seed=1)
    values[5:, 0] = torch.nan
    each = [
        gm.explained_variance(predicted[:5, :1], values[:5, :1]),
        gm.explained_variance(predicted[:, 1:], values[:, 1:]),
    ]
    assert gm.explained_variance(predicted, values) == pytest.approx(np.mean(each))


def test_a_class_that_is_told_but_not_there_counts_as_nothing() -> None:
    true = torch.tensor([0.0, 0, 2, 2])
    assert gm.class_mean_accuracy(torch.tensor([0.0, 0, 2, 2]), true) == 1  # class 1 is neither there nor told
    assert gm.class_mean_accuracy(torch.tensor([0.0, 0, 2, 3]), true) == pytest.approx((1 + 0.5 + 0) / 3)
