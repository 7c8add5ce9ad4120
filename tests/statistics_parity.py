"""What `graphs` makes of the inputs of reference files that hold no network; used by parity.py.

Tensors are named as in the files. Double precision is the own computation's; the references are single.
"""

import torch
from torch import Tensor
from torch.nn import functional

from graphs.graph_metrics import class_mean_accuracy, weighted_class_loss
from graphs.graph_store import GraphStore
from graphs.positions import with_eigenvectors, with_walks

Tensors = dict[str, Tensor]


def reproduce_positions(inputs: Tensors, references: Tensors) -> Tensors:
    """Walks and eigenpairs of all graphs of the file, computed together.

    An eigenvector is compared by its projection on the own eigenvectors of its eigenvalue: it stays itself exactly if
    both span the same.
    """
    names = [name.removesuffix(".edge_index") for name in inputs if name.endswith(".edge_index")]
    edges = [inputs[f"{name}.edge_index"] for name in names]
    sizes = [int(inputs[f"{name}.num_nodes"]) for name in names]
    store = GraphStore.of(torch.zeros(sum(sizes), 1), torch.cat(edges, 1), sizes, [one.shape[1] for one in edges])
    steps, count = references[f"output.{names[0]}.rwse"].shape[1], references[f"output.{names[0]}.eigvecs"].shape[1]
    store = with_eigenvectors(with_walks(store, range(1, steps + 1)), count)
    made = {}
    columns = (store.walks, store.eigenvalues, store.eigenvectors)
    for name, *own in zip(names, *(column.split(sizes) for column in columns), strict=True):
        walks, values, vectors = own
        theirs = references[f"output.{name}.eigvecs"]
        there = ~theirs[0].isnan()
        same = (values[0, :, None] - values[0]).abs() < 1e-4
        projected = theirs.clone()
        for k in there.nonzero().flatten().tolist():
            basis = vectors[:, same[k] & there].double()
            projected[:, k] = (basis @ (basis.T @ theirs[:, k].double())).float()
        made |= {f"output.{name}.rwse": walks, f"output.{name}.eigvals": values[..., None]}
        made[f"output.{name}.eigvecs"] = torch.where(vectors.isnan(), torch.nan, projected)
    return made


def reproduce_class_weights(inputs: Tensors, dtype: torch.dtype) -> Tensors:
    """The weighted losses of PATTERN and CLUSTER with their gradients, and the mean accuracy of the classes."""
    many, two = (inputs[name].to(dtype, copy=True).requires_grad_() for name in ("logits", "binary_logits"))
    labels, binary = inputs["labels"].to(dtype), inputs["binary_labels"].to(dtype)
    losses = weighted_class_loss(many, labels), weighted_class_loss(two, binary)
    sum(losses).backward()  # type: ignore[union-attr]
    assert many.grad is not None and two.grad is not None
    accuracies = class_mean_accuracy(many.argmax(dim=1), labels), class_mean_accuracy(two > 0, binary)
    return {
        "output.loss": losses[0].detach(),
        "output.binary_loss": losses[1].detach(),
        "output.log_probs": functional.log_softmax(many.detach(), dim=1),
        "output.accuracy_sbm": torch.tensor(accuracies[0], dtype=torch.float64),
        "output.binary_accuracy_sbm": torch.tensor(accuracies[1], dtype=torch.float64),
        "grad.logits": many.grad,
        "grad.binary_logits": two.grad,
    }
