"""Settings that DARTS-GT has for series and for graphs alike: the operators of its layers, and how they are searched.

The search itself is in `graphs.darts_search`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from graphs.darts_gt import DartsGTConfig
from graphs.darts_search import MixtureNorm, Mode, Schedule, SearchConfig
from graphs.graph_batch import GraphError
from graphs.graph_operators import PUBLISHED

from ..errors import UsageError

SEARCH, RANDOM = "search", "random"


@dataclass(frozen=True, kw_only=True)
class SearchedConfig(ABC):
    """Which operators the layers have. Raises `UsageError` for a value that no network can be built from."""

    architecture: str | tuple[str, ...] = SEARCH  # or an operator for all layers, one a layer, FILE.json, "random"
    layers: int = 2
    candidates: tuple[str, ...] = PUBLISHED  # operators that are searched among
    search_mode: Mode = "robust"  # or "reference", as the authors' code does it
    search_epochs: int = 8
    search_split: float = 0.6  # share of the training examples that weights learn on; the choice learns on the others
    search_warmup: float = 0.25  # share of the epochs in which all candidates count alike
    search_rate: float = 3e-3  # of the choice's logits, with Adam
    search_seeds: int = 1  # searches from as many seeds, of which the majority counts layer by layer
    search_groups: tuple[int, ...] = ()  # how many layers in a row share one choice; empty: each has its own
    search_schedule: Schedule = "joint"  # "sequential": one layer after the other, those behind it on equal shares
    search_temperature: float = 1.0  # of the softmax of the choice at the end, from 1 at the start
    search_cost: float = 0.0  # loss a parameter of the operators, by their probabilities
    search_mixture_norm: MixtureNorm = "global"  # as published, over all candidates' results, or "none"
    search_separate_norms: bool = False  # a norm for each candidate instead of one for all
    search_fallback: str | None = None  # the operator of undecided layers; null: the most probable one
    min_margin: float = 0.01  # a layer whose two best candidates are nearer in probability is undecided
    min_evidence: float = 3.0  # and so is one whose choice is no surer than this, in deviations of a standard normal

    def __post_init__(self) -> None:
        for name in ("candidates", "search_groups"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a stored model has lists
        if self.search_seeds < 1:
            raise UsageError(
                f"darts-gt: model.search_seeds is {self.search_seeds}; it must be at least 1.",
                "Set model.search_seeds=1.",
            )
        if self.search_groups and sum(self.search_groups) != self.layers:
            raise UsageError(
                f"darts-gt: model.search_groups adds up to {sum(self.search_groups)}; model.layers is {self.layers}.",
                "Leave model.search_groups empty for one choice a layer.",
            )
        if not isinstance(self.architecture, str):
            operators = tuple(self.architecture)
            # A single word is read as a list of one.
            object.__setattr__(self, "architecture", operators[0] if len(operators) == 1 else operators)
        try:
            self.network()
            _ = self.search
        except GraphError as error:
            raise UsageError(_named(error.message), _named(error.hint)) from None

    @abstractmethod
    def network(self) -> DartsGTConfig:
        """The settings of the network behind."""

    @property
    def operators(self) -> tuple[str, ...] | None:
        """The operator of each layer; None where they are still to be found."""
        if self.architecture == SEARCH or self.architecture == RANDOM or str(self.architecture).endswith(".json"):
            return None
        return (self.architecture,) * self.layers if isinstance(self.architecture, str) else self.architecture

    @property
    def search(self) -> SearchConfig:
        """How the architecture is searched."""
        return SearchConfig(
            mode=self.search_mode,
            candidates=self.candidates,
            epochs=self.search_epochs,
            split=self.search_split,
            warmup=self.search_warmup,
            logit_rate=self.search_rate,
            groups=self.search_groups,
            schedule=self.search_schedule,
            temperature=self.search_temperature,
            cost=self.search_cost,
            mixture_norm=self.search_mixture_norm,
            separate_norms=self.search_separate_norms,
            fallback=self.search_fallback,
            min_margin=self.min_margin,
            min_evidence=self.min_evidence,
        )


def _named(text: str) -> str:
    """Settings of a search by their names here."""
    return text.replace("search.candidates", "model.candidates").replace("search.", "model.search_")
