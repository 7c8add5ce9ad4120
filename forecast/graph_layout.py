"""Where the nodes of a small graph are drawn: as far from each other as the paths between them are long."""

import numpy as np

_ROUNDS = 100


def layout(nodes: int, edges: np.ndarray) -> np.ndarray:
    """Give places (N, 2) of a graph's nodes, edges (2, E) taken both ways; the same graph has the same places.

    Parts that no path joins stand side by side, each along its longer side.
    """
    away = _distances(nodes, edges)
    part = np.isfinite(away).argmax(axis=1)
    places, left = np.empty((nodes, 2)), 0.0
    for first in np.unique(part):
        rows = np.flatnonzero(part == first)
        one = _placed(away[np.ix_(rows, rows)])
        places[rows] = one - [one[:, 0].min() - left, 0.0]
        left = places[rows, 0].max() + 1.0
    return places


def _placed(away: np.ndarray) -> np.ndarray:
    """Places of nodes whose paths are `away` (N, N) long.

    Stress majorization: Gansner, Koren, North, "Graph Drawing by Stress Majorization", GD 2004, with weights of one
    over the squared distance, from the places of classical scaling.
    """
    places = _scaled(away)
    weight = np.divide(1.0, away**2, out=np.zeros_like(away), where=away > 0)
    inverse = np.linalg.pinv(np.diag(weight.sum(1)) - weight)
    for _ in range(_ROUNDS if len(away) > 2 else 0):
        apart = np.linalg.norm(places[:, None] - places, axis=2)
        pull = -weight * np.divide(away, apart, out=np.zeros_like(away), where=apart > 0)
        np.fill_diagonal(pull, -pull.sum(1))
        places = inverse @ pull @ places
    centred = places - places.mean(0)
    along = np.linalg.svd(centred, full_matrices=False)[2] if len(away) > 2 else np.eye(2)
    turned: np.ndarray = centred @ along.T
    return turned


def _distances(nodes: int, edges: np.ndarray) -> np.ndarray:
    """Lengths of the shortest paths, (N, N); infinite where there is none."""
    away = np.full((nodes, nodes), np.inf)
    away[edges[0], edges[1]] = away[edges[1], edges[0]] = 1.0
    np.fill_diagonal(away, 0.0)
    for via in range(nodes):  # Floyd and Warshall; only small graphs are drawn
        away = np.minimum(away, away[:, via, None] + away[via])
    return away


def _scaled(away: np.ndarray) -> np.ndarray:
    """Classical scaling in two dimensions, (N, 2)."""
    centre = np.eye(len(away)) - 1 / len(away)
    values, vectors = np.linalg.eigh(-0.5 * centre @ away**2 @ centre)
    # Equal eigenvalues leave nodes of symmetric graphs on one spot: a fixed nudge parts them.
    nudge = 1e-3 * np.random.default_rng(0).standard_normal((len(away), 2))
    found = np.zeros((len(away), 2))
    count = min(2, len(away))
    found[:, :count] = (vectors * np.sqrt(values.clip(min=0)))[:, ::-1][:, :count]
    return found + nudge
