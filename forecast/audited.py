"""What an audit found: lines of text, a JSON document, and the error of a leak."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import GateError

_SHOWN = 6  # origins that are named


@dataclass(frozen=True)
class Check:
    """One change of what a model must not know, or one comparison of what it holds."""

    name: str
    what: str  # was changed or compared, in words
    compared: int = 0  # numbers that had to stay
    moved: int = 0  # of them
    not_checked: str | None = None  # why, where it could not be


@dataclass(frozen=True)
class Leak:
    """The first number of a check that moved, and what that means in a sentence."""

    check: str
    series: str
    origin: str
    message: str
    hint: str
    step: int | None = None  # of the horizon
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class Audit:
    """What was changed behind which origins, what had to stay, and the first leak of each check that failed."""

    model: str
    kind: str  # of data: series or events
    source: str  # of the data
    about: Mapping[str, Any]  # counts of the data
    origins: Sequence[str]
    seed: int
    checks: Sequence[Check]
    leaks: Sequence[Leak] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()  # what may be used, and what this does not show

    @property
    def clean(self) -> bool:
        return not self.leaks

    @property
    def error(self) -> GateError | None:
        """The first leak as an error, exit code 4; None where there is none."""
        return GateError(self.leaks[0].message, self.leaks[0].hint) if self.leaks else None

    def document(self) -> dict[str, Any]:
        """Give what `forecast audit --json` prints; numbers that are not finite are None."""
        error = self.error
        return {
            "model": self.model,
            "kind": self.kind,
            "data": {"source": self.source, **self.about},
            "origins": list(self.origins),
            "seed": self.seed,
            "checks": [asdict(check) for check in self.checks],
            "leaks": [asdict(leak) for leak in self.leaks],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "clean": self.clean,
            "error": error and {"code": error.exit_code, "message": error.message, "hint": error.hint},
        }

    def text(self) -> str:
        """Give one line a check, with how many numbers were compared and how many moved."""
        some = ", ".join(self.origins[:_SHOWN]) + (", …" if len(self.origins) > _SHOWN else "")
        counts = ", ".join(f"{value:,} {name}" for name, value in self.about.items() if isinstance(value, int))
        lines = [
            f"{self.model} on {self.source}: {counts}",
            f"{len(self.origins)} origins, seed {self.seed}: {some}",
            "",
        ]
        width = max(len(check.name) for check in self.checks)
        for check in self.checks:
            found = f"{check.compared:,} numbers, {f'{check.moved:,} MOVED' if check.moved else 'none moved'}"
            if check.not_checked is not None:
                found = f"not checked: {check.not_checked}"
            lines.append(f"{check.name:<{width}}  {check.what}: {found}")
        lines += ["", *(f"warning: {warning}" for warning in self.warnings), *self.notes]
        passed = sum(check.not_checked is None for check in self.checks)
        lines.append(f"clean: {passed} checks passed" if self.clean else f"LEAK: {self.leaks[0].message}")
        return "\n".join(lines)
