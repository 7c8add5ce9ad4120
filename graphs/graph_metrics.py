"""Losses and metrics of graphs and nodes. A missing target is NaN: it counts nowhere and gets no gradient.

Rows are graphs or nodes. Losses are tensors to go backwards from; metrics are numbers, NaN where nothing can be said.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .metrics import area_under_curve, average_precision

# Losses


def absolute_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """The mean absolute error over the targets that are there, of any shape (R, T) or (R,)."""
    seen = ~targets.isnan()
    return (predicted[seen] - targets[seen]).abs().sum() / seen.sum().clamp(min=1)


def binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean binary cross-entropy over the labels 0 and 1 that are there, of any shape (R, T) or (R,)."""
    seen = ~labels.isnan()
    total = functional.binary_cross_entropy_with_logits(logits[seen], labels[seen].to(logits.dtype), reduction="sum")
    return total / seen.sum().clamp(min=1)


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of logits (R, K) over the classes (R,) that are there."""
    seen = ~labels.isnan()
    return functional.cross_entropy(logits[seen], labels[seen].long(), reduction="sum") / seen.sum().clamp(min=1)


def weighted_class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in which rare classes weigh more, of logits (R, K), or (R,) of two classes; classes (R,).

    A class of n among R rows weighs (R - n) / R. With logits (R, K) the mean is weighted; with (R,) it is over the
    rows, as in the authors' code. 0 where all rows are of one class.
    """
    seen = ~labels.isnan()
    logits, classes = logits[seen], labels[seen].long()
    counts = torch.bincount(classes, minlength=2 if logits.dim() == 1 else logits.shape[1]).to(logits.dtype)
    rows = max(len(classes), 1)
    weights = (1 - counts / rows)[classes]
    if logits.dim() == 1:
        each = functional.binary_cross_entropy_with_logits(logits, classes.to(logits.dtype), reduction="none")
        return (weights * each).sum() / rows
    each = functional.cross_entropy(logits, classes, reduction="none")
    # All of one class: nothing weighs, and 0 / 0 would spoil the weights of the network.
    return (weights * each).sum() / weights.sum().clamp(min=torch.finfo(logits.dtype).tiny)


# Metrics


def mean_absolute_error(predicted: Tensor, targets: Tensor) -> float:
    """The mean absolute error over all targets that are there, of any shape."""
    seen = ~targets.isnan()
    return float((predicted[seen].double() - targets[seen].double()).abs().mean())


def explained_variance(predicted: Tensor, targets: Tensor) -> float:
    """R²: 1 less the squared error over that of the mean, the mean over the targets (R, T) that vary."""
    seen, known = ~targets.isnan(), targets.double()
    middle = known.nanmean(dim=0)
    missed = torch.where(seen, predicted.double() - known, 0).square().sum(dim=0)
    spread = torch.where(seen, known - middle, 0).square().sum(dim=0)
    varies = spread > 0
    return float((1 - missed[varies] / spread[varies]).mean())


def accuracy(predicted: Tensor, classes: Tensor) -> float:
    """The share of classes (R,) that are predicted, among those that are there."""
    seen = ~classes.isnan()
    return float((predicted[seen] == classes[seen]).double().mean())


def class_mean_accuracy(predicted: Tensor, classes: Tensor) -> float:
    """The mean over the classes of the share that is found of each (accuracy-SBM); predicted and true classes (R,).

    A class that is predicted but not there counts as 0.
    """
    seen = ~classes.isnan()
    known, told = classes[seen].long(), predicted[seen].long()
    if not len(known):
        return torch.nan
    count = int(torch.maximum(known.max(), told.max())) + 1
    sizes = torch.bincount(known, minlength=count)
    found = torch.bincount(known[known == told], minlength=count)
    there = (sizes + torch.bincount(told, minlength=count)) > 0
    return float((found / sizes.clamp(min=1).double())[there].mean())


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Average precision of each label (R, T) over the rows that have it, the mean over labels with both classes."""
    each = [average_precision(*pair) for pair in _both_classes(scores, labels)]
    return sum(each) / len(each) if each else torch.nan


def mean_area_under_curve(scores: Tensor, labels: Tensor) -> float:
    """ROC-AUC of each label (R, T) over the rows that have it, the mean over labels with both classes."""
    each = [area_under_curve(*pair) for pair in _both_classes(scores, labels)]
    return sum(each) / len(each) if each else torch.nan


def _both_classes(scores: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The scores of the positives and of the negatives of each label that has some of both."""
    pairs = [(s[y == 1], s[y == 0]) for s, y in zip(scores.unbind(1), labels.unbind(1), strict=True)]
    return [(positive, negative) for positive, negative in pairs if len(positive) and len(negative)]
