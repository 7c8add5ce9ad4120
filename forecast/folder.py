"""A trained model as a folder: `model.json` says what it is, `model.safetensors` holds its numbers; never a pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .errors import ArtifactError

FORMAT = 1  # of the folder; raised when an older reader could not read it


def write_folder(folder: Path, described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write both files into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **described}, indent=1, ensure_ascii=False)
    (folder / "model.json").write_text(text, encoding="utf-8")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors"
    )


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `write_folder` was given. Raises ArtifactError for a file that is missing, damaged or of a newer format."""
    try:
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{folder} is no model folder: {Path(error.filename or 'model.safetensors').name} is missing.",
            "Give the folder that a fit wrote, or models:/NAME@champion.",
        ) from None
    except (ValueError, SafetensorError) as error:
        raise ArtifactError(f"{folder} is damaged: {error}.", "Fetch the model again.") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = described.get("format") if isinstance(described, dict) else None
        raise ArtifactError(
            f"{folder} has format {found}; this version reads {FORMAT}.",
            "Install the version of forecast that wrote it.",
        )
    return described, tensors


def not_as_said(folder: Path, error: Exception) -> ArtifactError:
    """The error of a folder whose two files do not fit each other."""
    reason = " ".join(str(error).split())[:200]
    return ArtifactError(f"{folder} does not hold what it says: {reason}.", "Fetch the model again.")
