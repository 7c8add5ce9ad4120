"""Todyformer: a window of events as patches, messages within patches, attention within each node's tokens.

Paper: Mahdi Biparva, Raika Karimi, Faezeh Faez, Yingxue Zhang, "Todyformer: Towards Holistic Dynamic Graph
Transformers with Structure-Aware Tokenization", TMLR 2024, https://arxiv.org/abs/2402.05944. Its local encoder comes
from "DyG2Vec: Efficient Representation Learning for Dynamic Graphs", TMLR 2024, https://arxiv.org/abs/2210.16906. No
code was ever published for either, so nothing here was compared with the authors' numbers.

The paper's:
- the encoder sees a window of the last events before the targets and never the query; nothing is kept from window to
  window; events of a window may inform each other in both directions;
- the window is cut into equally many consecutive events a patch; each (node, patch) is a token, made by a network of
  messages inside the patch that attends with the codes of time and of the edge;
- the tokens of a node are packed into a sequence, given a code of time, and pass a masked Transformer;
- blocks of the two follow each other, on the same patches;
- binary cross-entropy against one random negative, a small network on two embeddings; labels of nodes from a frozen
  encoder.

Ours, where the paper is silent or could not be checked:
- the window ends strictly before the first query's time, and events of one time are neither split by its start nor by
  patches; patches fill from the latest;
- the formulas of all codes: cosines and logarithms of time; logarithms of temporal degrees, pair counts and, where
  asked for, common neighbours; a learned code of the message's direction;
- the layout of the layers (norms first, residual; `layout="published"` is DyG2Vec's own), the read-out of the latest
  token, the skip from the node's input, the state of nodes outside the window;
- inputs of nodes other than given features and the same for all (`node_input="zeros"`, closest to the paper): random
  codes, and a learned table with a row for unknown nodes;
- the decoder with gaps and product (`decoder="published"` is the plain one) and the softmax loss: gaps reach to the
  window's end, the time from there to the query enters once a query, so that nothing but a sum is made for a pair;
- what the decoder is told beside embeddings, which is no part of the method: of pairs that met, how often, how lately
  and before whom (the pair channel), and of each node how many events and new partners it had lately. It knows thus
  what the best simple rules know, and so does the control without blocks. `pair_history="none"` tells nothing of
  either and is the paper's. With `cut="query"` this is told as of each query's own time, the events of its batch
  before it included, as the protocols do that score one query after the other; the window stays that of the batch.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from .events import EventError, EventStore, LinkBatch
from .link_heads import Ends, LinkDecoder, NodeDecoder, PublishedLinkDecoder
from .node_input import NodeInput, NodeInputs
from .pairs import NODE_FEATURES, PAIR_FEATURES, PairTable
from .patches import WindowGraph, window_graph
from .time_code import TimeCode
from .token_layers import GlobalLayer, LocalLayer, Messages

Position = Literal["node", "patch", "none"]
ReadOut = Literal["last", "mean", "last+mean"]
Layout = Literal["residual", "published"]
PairHistories = Literal["none", "window", "all"]
Decoder = Literal["product", "published"]
Cut = Literal["batch", "query"]

SCORES_AT_ONCE = 2**20  # pairs scored together outside of training
OWN_AT_ONCE = 2**15  # the same where a candidate's activity differs from query to query, as does its vector then


@dataclass(frozen=True, kw_only=True)
class TodyformerConfig:
    """Sizes and parts of the network; the defaults train on one core.

    Raises `EventError` for a value that no network can be built from.
    """

    window: int = 4096  # events that the encoder reads
    patches: int = 8  # parts of the window
    width: int = 64  # of a token
    blocks: int = 2  # local, then global, so many times; 0: the decoder alone, the control of every report
    local_layers: int = 1  # layers of messages a block
    global_layers: int = 1  # Transformer layers a block; 0: local only
    local_heads: int = 2
    global_heads: int = 4
    dropout: float = 0.1
    node_input: NodeInputs = "zeros"  # what a node is before any event; "features" are added to it where given
    unknown: float = 0.1  # share of nodes replaced by the unknown one in training, "embedding" only
    position: Position = "node"  # code of time of a token: the node's last event in the patch, the patch's, none
    readout: ReadOut = "last"  # which of its tokens a node's embedding comes from
    layout: Layout = "residual"  # of the local layers
    share_edge_projection: bool = False  # one map of the edge code for keys and values
    common_neighbours: bool = False  # count them for the edge code; slow on dense graphs
    directed: bool = True  # whether (u, v) and (v, u) are different links
    snap_ties: bool = True  # keep events of one time together
    decoder: Decoder = "product"
    pair_history: PairHistories = "all"  # how far back the decoder knows meetings of pairs and activity of nodes
    reciprocal: bool = True  # whether it knows those of (v, u), too; undirected, they are the same
    cut: Cut = "batch"  # as of when: the first event of the batch, or each query's own time

    def __post_init__(self) -> None:
        least = {"window": 1, "patches": 1, "width": 1, "blocks": 0, "local_layers": 1, "global_layers": 0}
        for name, floor in {**least, "local_heads": 1, "global_heads": 1}.items():
            if getattr(self, name) < floor:
                raise EventError(
                    f"todyformer: model.{name} is {getattr(self, name)}; it must be at least {floor}.",
                    f"Set model.{name}={floor} or more.",
                )
        if self.window < self.patches:
            raise EventError(
                f"todyformer: model.window {self.window} is less than model.patches {self.patches}.",
                f"Set model.patches={self.window} or less.",
            )
        for name in ("local_heads", "global_heads"):
            heads = getattr(self, name)
            if self.width % heads:
                raise EventError(
                    f"todyformer: model.width {self.width} is not a multiple of model.{name} {heads}.",
                    f"Set model.width={-(-self.width // heads) * heads}, or another number of heads.",
                )
        for name in ("dropout", "unknown"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise EventError(
                    f"todyformer: model.{name} is {getattr(self, name)}; it must be at least 0 and below 1.",
                    f"Set model.{name}=0.1, or 0 for none.",
                )
        for name, kinds in CHOICES.items():
            if getattr(self, name) not in get_args(kinds):
                raise EventError(
                    f'todyformer: model.{name} "{getattr(self, name)}" is not known.',
                    f"Set model.{name} to {' or '.join(get_args(kinds))}.",
                )
        if self.cut == "query" and self.pair_history != "all":
            raise EventError(
                f'todyformer: model.cut "query" has no effect with model.pair_history "{self.pair_history}".',
                "Set model.pair_history=all, or model.cut=batch.",
            )


CHOICES = {
    "node_input": NodeInputs,
    "position": Position,
    "readout": ReadOut,
    "layout": Layout,
    "decoder": Decoder,
    "pair_history": PairHistories,
    "cut": Cut,
}


class GraphShape(NamedTuple):
    """What the network must know of the data."""

    nodes: int  # ids below this were known when it was made; any other is an unknown node
    edge_features: int = 0
    node_features: int = 0
    time_scale: float = 1.0  # the span of a window, in the store's unit of time

    @classmethod
    def of(cls, training: EventStore, window: int, node_features: int = 0) -> "GraphShape":
        """The shape of a store, from its training part alone: the scale is the mean gap of its events × `window`."""
        gaps = max(1, len(training) - 1)
        span = float(training.time[-1] - training.time[0]) if len(training) else 0.0
        return cls(training.nodes, training.features.shape[1], node_features, max(span / gaps * window, 1e-9))


class View(NamedTuple):
    """What a group of queries may see: all of it strictly before the earliest of them.

    With `cut="query"` each of them may see the events of `pairs` up to its own time.
    """

    graph: WindowGraph
    pairs: PairTable | None
    cut: int  # events of `pairs` that all of them may see


class History:
    """The events that queries look back on, indexed once for a network's settings."""

    def __init__(self, store: EventStore, config: TodyformerConfig) -> None:
        self.store, self.config = store, config
        self.pairs = self._table(store) if config.pair_history == "all" else None

    def until(self, time: float | Tensor) -> View:
        """What may be seen of the events strictly before `time`: integer work, nothing of it is learned."""
        config = self.config
        graph = window_graph(
            self.store,
            time,
            config.window,
            config.patches,
            snap_ties=config.snap_ties,
            count_common=config.common_neighbours,
        )
        if config.pair_history != "window":
            return View(graph, self.pairs, graph.cut)
        part = self.store[graph.start : graph.cut]
        return View(graph, self._table(part), len(part))

    def _table(self, store: EventStore) -> PairTable:
        config = self.config
        return PairTable(
            store, config.window, directed=config.directed, reciprocal=config.directed and config.reciprocal
        )


class Encoding(NamedTuple):
    """The nodes of a window with their embeddings."""

    nodes: Tensor  # (n,) int64 ids, ascending
    state: Tensor  # (n, D)
    node_time: Tensor  # (n,) time of the last event
    first_time: Tensor  # () time of the window's first event
    last_time: Tensor  # () time of the window's last event; queries come later


class Block(nn.Module):
    """Layers of messages within patches, then of attention within nodes."""

    def __init__(self, config: TodyformerConfig) -> None:
        super().__init__()
        self.local_layers = nn.ModuleList(
            LocalLayer(
                config.width,
                config.local_heads,
                config.dropout,
                residual=config.layout == "residual",
                share_edge_projection=config.share_edge_projection,
            )
            for _ in range(config.local_layers)
        )
        self.global_layers = nn.ModuleList(
            GlobalLayer(config.width, config.global_heads, config.dropout) for _ in range(config.global_layers)
        )

    def forward(self, tokens: Tensor, messages: Messages, position: Tensor | None, graph: WindowGraph) -> Tensor:
        """The tokens (T, D) after this block; their positions are added between its halves."""
        for layer in self.local_layers:
            tokens = layer(tokens, messages)
        if position is not None:
            tokens = tokens + position
        for layer in self.global_layers:
            tokens = layer(tokens, graph.sequences)
        return tokens


class TodyformerEncoder(nn.Module):
    """Encodes a window: one embedding a node, whatever the task and the query."""

    def __init__(self, shape: GraphShape, config: TodyformerConfig) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        width = config.width
        self.input = NodeInput(shape.nodes, shape.node_features, width, config.node_input, config.unknown)
        self.time_code = TimeCode(width, config.window)
        self.edge_features = nn.Linear(shape.edge_features, width, bias=False) if shape.edge_features else None
        inputs = 3 + config.common_neighbours + 2 * config.directed
        self.mix = nn.Parameter(torch.randn(width, inputs) * inputs**-0.5)  # counts, then the two roles
        placed = config.position != "none" and config.global_layers > 0
        self.position = TimeCode(width, config.window) if placed else None
        self.patch_code = nn.Embedding(config.patches, width) if placed else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.join = nn.Linear(2 * width, width) if config.readout == "last+mean" else None
        self.cold = nn.Parameter(torch.randn(width) * width**-0.5)
        self.norm = nn.LayerNorm(width)

    def forward(self, graph: WindowGraph) -> Encoding:
        """The embedding of every node of the window."""
        inputs = self.input(graph.nodes)
        states = inputs + self._read_out(self.tokens(graph, inputs), graph)
        return Encoding(graph.nodes, self.norm(states), graph.node_time, graph.first_time, graph.last_time)

    def tokens(self, graph: WindowGraph, inputs: Tensor) -> Tensor:
        """The tokens after the last block, (T, D), from the inputs of the window's nodes (n, D)."""
        tokens = inputs.index_select(0, graph.token_node)
        if not len(tokens):
            return tokens
        messages = self._messages(graph)
        position = self._position(graph)
        for block in self.blocks:
            tokens = block(tokens, messages, position, graph)
        return tokens

    def ends(self, encoding: Encoding, ids: Tensor, time: Tensor, activity: Tensor | None = None) -> Ends:
        """Nodes `ids` (R,) as the decoders take them, their gaps being up to `time` (R,) or ().

        A node without an event in the window is its input and a learned vector; its gap is the one since the window's
        beginning, which it is at least, or 0 where the window is empty.
        """
        states, place, seen = self._states(encoding, ids)
        last = torch.where(seen, encoding.node_time[place], encoding.first_time) if len(encoding.nodes) else time
        gap = self.spans(time - last, states.dtype).expand(len(ids))
        told = states.new_zeros(len(ids), 0) if activity is None else activity.to(states.dtype)
        return Ends(states, gap, seen.to(states.dtype), told)

    def spans(self, difference: Tensor, dtype: torch.dtype) -> Tensor:
        """Differences of time, in the store's type, as multiples of a window's span."""
        return difference.to(dtype) / self.shape.time_scale

    def _states(self, encoding: Encoding, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = len(encoding.nodes)
        place = torch.searchsorted(encoding.nodes, ids.contiguous()).clamp(max=max(count - 1, 0))
        seen = encoding.nodes[place] == ids if count else torch.zeros_like(ids, dtype=torch.bool)
        cold, inverse = torch.unique(ids[~seen], return_inverse=True)
        states = torch.cat((encoding.state, self.norm(self.input(cold) + self.cold)))
        row = place.masked_scatter(~seen, inverse + count)
        return states.index_select(0, row), place, seen

    def _messages(self, graph: WindowGraph) -> Messages:
        dtype = self.mix.dtype
        code = self.time_code(self.spans(graph.event_age, dtype))
        if self.edge_features is not None:
            code = code + self.edge_features(graph.event_features.to(dtype))
        inputs = torch.log1p(graph.counts.to(dtype))
        if self.config.directed:
            inputs = torch.cat((inputs, nn.functional.one_hot(graph.role, 2).to(dtype)), dim=1)
        return Messages(graph.source, graph.target, graph.event, code, inputs, self.mix)

    def _position(self, graph: WindowGraph) -> Tensor | None:
        if self.position is None or self.patch_code is None:
            return None
        age = graph.token_age
        if self.config.position == "patch":
            youngest = age.new_zeros(graph.patches)
            youngest = youngest.scatter_reduce(0, graph.token_patch, age, "amin", include_self=False)
            age = youngest[graph.token_patch]
        code: Tensor = self.position(self.spans(age, self.mix.dtype))
        return code + self.patch_code(graph.token_patch)

    def _read_out(self, tokens: Tensor, graph: WindowGraph) -> Tensor:
        last = tokens.index_select(0, graph.node_latest)
        if self.config.readout == "last":
            return last
        total = torch.zeros_like(last).index_add(0, graph.token_node, tokens)
        mean = total / torch.bincount(graph.token_node, minlength=len(last))[:, None]
        return mean if self.join is None else self.join(torch.cat((last, mean), dim=1))


class Todyformer(nn.Module):
    """Scores links from the encoding of a window: `History(store, config).until(time)` in, scores out.

    All queries of a call share one window, which must end before the earliest of them; the encoder does not see what
    came between, nor, unless `cut="query"`, does the decoder. So how many are scored together is part of the model's
    behaviour (200 in training and here).
    """

    def __init__(self, shape: GraphShape, config: TodyformerConfig) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.encoder = TodyformerEncoder(shape, config)
        told = config.pair_history != "none"
        pairs = PAIR_FEATURES * (1 + (config.directed and config.reciprocal)) * told
        self.decoder: LinkDecoder | PublishedLinkDecoder
        if config.decoder == "published":
            self.decoder = PublishedLinkDecoder(config.width, config.width, pairs)
        else:
            activity = NODE_FEATURES * (1 + config.directed) * told
            self.decoder = LinkDecoder(config.width, config.window, pairs, activity, config.directed)

    def forward(self, view: View, batch: LinkBatch) -> Tensor:
        """Scores (B, 1 + N): of the links, then of their negatives; a negative of -1 gets that of node 0."""
        encoding = self.encoder(view.graph)
        dst = torch.cat((batch.dst[:, None], batch.negatives.clamp(min=0)), dim=1)
        if not bool((batch.negative_src == batch.src[:, None]).all()):
            src = torch.cat((batch.src[:, None], batch.negative_src.clamp(min=0)), dim=1)
            time = batch.time.repeat_interleave(dst.shape[1])
            return self.score(view, encoding, src.flatten(), dst.view(-1, 1), time).view_as(dst)
        candidates, place = distinct(dst)
        if len(candidates) > dst.shape[1]:
            return self.score(view, encoding, batch.src, dst, batch.time)
        return self.score(view, encoding, batch.src, candidates[None], batch.time).gather(1, place)

    def score(self, view: View, encoding: Encoding, src: Tensor, dst: Tensor, time: Tensor) -> Tensor:
        """Scores (B, K) of src (B,) with dst (B, K), or with the same K candidates for all, (1, K), at time (B,).

        Outside of training in parts, so that memory does not grow with B. Raises `EventError` for a query that is not
        later than the window.
        """
        check_later(time, encoding)
        if not len(src):
            return self.encoder.norm.weight.new_zeros(0, dst.shape[1])
        own = view.pairs is not None and self.config.cut == "query"
        at_once = OWN_AT_ONCE if own else SCORES_AT_ONCE
        rows = len(src) if torch.is_grad_enabled() else max(1, at_once // max(1, dst.shape[1]))
        nodes, place = (dst[0], None) if len(dst) == 1 else distinct(dst)
        destination = self.encoder.ends(encoding, nodes, encoding.last_time)
        dtype = destination.state.dtype
        unit, table = self.shape.time_scale / self.config.window, view.pairs
        if table is not None and not own:
            destination = destination._replace(activity=table.activity(nodes, view.cut, unit).to(dtype))
        parts = []
        for part in torch.arange(len(src)).split(rows):
            u, at = src[part], time[part]
            v, some = (dst, None) if place is None else (dst[part], place[part])
            told = pairs = None
            if table is not None:
                cut = table.store.before(at) if own else torch.full_like(u, view.cut)
                told, pairs = table.activity(u, cut, unit), table.features(u, v, at, cut, unit)
                pairs = pairs._replace(values=pairs.values.to(dtype))
                if own:
                    activity = table.activity(v, cut[:, None], unit)
                    destination = destination._replace(activity=activity.to(dtype))
            source = self.encoder.ends(encoding, u, encoding.last_time, told)
            lead = self.encoder.spans(at - encoding.last_time if len(encoding.nodes) else torch.zeros_like(at), dtype)
            parts.append(self.decoder(source, destination, lead, some, pairs))
        return torch.cat(parts)


def distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct of ids from 0, ascending, and the place of each among them; no sort, of so many few are distinct."""
    there = torch.zeros(int(ids.max()) + 1 if ids.numel() else 0, dtype=torch.bool).index_fill_(0, ids.flatten(), True)
    return there.nonzero().squeeze(1), (there.cumsum(0) - 1)[ids]


def check_later(time: Tensor, encoding: Encoding) -> None:
    """Refuses queries that are not later than every event of the window, with an `EventError`."""
    if len(encoding.nodes) and not bool((time > encoding.last_time).all()):
        raise EventError(
            f"A query at {time.min().item()} is not later than the window, which ends at {encoding.last_time.item()}.",
            "Take the window from History.until, at the earliest time of the queries.",
        )


class NodeStates(nn.Module):
    """Class scores of nodes from an encoder that was trained on links and does not learn any more."""

    def __init__(self, encoder: TodyformerEncoder, classes: int, *, use_event_features: bool = False) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        config = encoder.config
        self.event_features = encoder.shape.edge_features if use_event_features else 0
        self.decoder = NodeDecoder(config.width, config.window, classes, self.event_features, config.dropout)

    def train(self, mode: bool = True) -> "NodeStates":
        """Training mode for the decoder alone."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, view: View, nodes: Tensor, time: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores (B, classes) of `nodes` (B,) at `time` (B,); `features` (B, F) of the events, where they are used."""
        return self.score(self.encoder(view.graph), nodes, time, features)

    def score(self, encoding: Encoding, nodes: Tensor, time: Tensor, features: Tensor | None = None) -> Tensor:
        """The same from the encoding of a window, which other queries may share."""
        check_later(time, encoding)
        scores: Tensor = self.decoder(self.encoder.ends(encoding, nodes, time), features)
        return scores
