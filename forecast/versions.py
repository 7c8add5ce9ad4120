"""Registered versions in MLflow: find, fetch, register, promote.

The alias `champion` is the commit point: it is set last, so a batch job that reads it never meets a half-written
version.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from . import bundle
from .errors import ArtifactError
from .gate import Decision
from .tracking import lock_of, open_store

CHAMPION, PREVIOUS = "champion", "previous"


@dataclass(frozen=True)
class Version:
    """What became of a registration, as `--json` prints it."""

    name: str
    version: int
    alias: str | None
    decision: str
    reason: str
    run: str


def fetch(uri: str) -> Path:
    """Bring the stored model that MLflow calls `uri` here.

    A version whose files are not those that were registered is refused with ArtifactError before any of its code runs.
    """
    client = open_store()
    try:
        version = _resolve(client, uri)
        pinned = f"models:/{version.name}/{version.version}" if version else uri
        folder = Path(mlflow.artifacts.download_artifacts(pinned))
    except (MlflowException, OSError) as error:
        raise ArtifactError(f"{uri} cannot be resolved: {str(error).splitlines()[0]}", _hint(client, uri)) from None
    if version and "sha256" in version.tags:
        registered = json.loads(version.tags["sha256"])
        found = bundle.checksums(folder)
        changed = sorted(name for name in {*registered, *found} if registered.get(name) != found.get(name))
        if changed:
            raise ArtifactError(
                f"{uri}: {changed[0]} is not the file that was registered.", "Register the model again."
            )
    return folder


def champion(name: str) -> ModelVersion | None:
    """Give the version that carries the alias, None where there is none."""
    client = open_store()
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None


def model_of(version: ModelVersion) -> str:
    """Give the id of the model behind a version; a local store keeps it in the source alone."""
    return str(version.model_id or version.source.removeprefix("models:/"))


def as_registered(version: ModelVersion) -> Version:
    """Say again what became of the registration of the present champion."""
    tags = version.tags
    return Version(
        version.name,
        int(version.version),
        CHAMPION,
        tags.get("decision", ""),
        tags.get("reason", ""),
        tags.get("run", ""),
    )


@contextlib.contextmanager
def registry_lock() -> Iterator[None]:
    """Keep two registrations on one local store apart; with a server the last writer wins."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("sqlite:///"):
        yield
        return
    import fcntl

    with open(lock_of(Path(uri.removeprefix("sqlite:///"))), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def add(name: str, model_id: str, decision: Decision, tags: Mapping[str, str]) -> Version:
    """Register a model once (a second call finds the first version), tag it, and promote it last."""
    client = open_store()
    try:
        existing = [v for v in client.search_model_versions(f"name = '{name}'") if model_of(v) == model_id]
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow says that it registered, whatever the log level
            number = existing[0].version if existing else mlflow.register_model(f"models:/{model_id}", name).version
        for key, value in {**tags, "decision": decision.verdict, "reason": decision.reason}.items():
            client.set_model_version_tag(name, number, key, value)
        alias = None
        if decision.verdict == "promoted":
            before = champion(name)
            if before is not None and before.version != number:
                client.set_registered_model_alias(name, PREVIOUS, before.version)
            client.set_registered_model_alias(name, CHAMPION, number)
            alias = CHAMPION
    except MlflowException as error:
        raise ArtifactError(
            f"{name} cannot be registered: {str(error).splitlines()[0]}", "Run `forecast register RUN` again."
        ) from None
    return Version(name, int(number), alias, decision.verdict, decision.reason, tags["run"])


def _resolve(client: mlflow.MlflowClient, uri: str) -> ModelVersion | None:
    """Find the registered version that `models:/name@alias` or `models:/name/3` means; None for other addresses."""
    if not uri.startswith("models:/") or uri.startswith("models:/m-"):
        return None
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if at:
        return client.get_model_version_by_alias(name, alias)
    name, _, number = name.rpartition("/")
    if number == "latest":
        found = client.search_model_versions(f"name = '{name}'")
        if not found:
            raise MlflowException(f"{name} has no version")
        return max(found, key=lambda version: int(version.version))
    return client.get_model_version(name, number)


def _hint(client: mlflow.MlflowClient, uri: str) -> str:
    names = [model.name for model in client.search_registered_models()]
    if not names:
        return "Nothing is registered in this store yet: forecast fit DATA --model NAME --register NAME."
    asked = uri.removeprefix("models:/").partition("@")[0].partition("/")[0]
    near = get_close_matches(asked, names, n=1) or names[:1]
    return f"Did you mean models:/{near[0]}@{CHAMPION}? Registered: {', '.join(sorted(names)[:8])}."
