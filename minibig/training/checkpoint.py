"""Checkpoints: one file a save, which is there whole or not at all."""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minibig import checks
from minibig.files import FileError, load_arrays, save_arrays

_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
_STEP = "minibig.step"
_INFO = "minibig.info"


@dataclass(frozen=True)
class Checkpoint:
    """A training state: `arrays` by name and `info`, as they were after `step`."""

    step: int
    arrays: dict[str, np.ndarray]
    info: dict
    path: Path


def save_checkpoint(folder, step, arrays, info, *, keep=2):
    """The path of the new checkpoint-<step>.safetensors in `folder`.

    info: JSON-able, NumPy scalars, NaN and infinities included; tuples come back as
    lists. The file appears whole or not at all, and only then are the older ones beyond
    `keep` removed. So are checkpoints of later steps: they belong to a run that this
    save has left behind. Raises TypeError or FileError before anything is written.
    """
    step, keep = checks.whole("step", step, 0), checks.whole("keep", keep, 1)
    metadata = {_STEP: str(step), _INFO: json.dumps(jsonable(info, "info"))}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{step:08d}.safetensors"
    save_arrays(path, arrays, metadata)
    others = [other for other in _checkpoints(folder) if other != path]
    later = [other for other in others if _step_of(other) > step]
    earlier = [other for other in others if _step_of(other) < step]
    for old in later + earlier[keep - 1 :]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(path):
    """The Checkpoint in a file, or the newest that loads in a folder.

    Where the newest is damaged, a warning says so and the one before it is loaded.
    Raises FileNotFoundError where there is none, FileError where none loads.
    """
    path = Path(path)
    if not path.is_dir():
        return _load(path)
    problems = []
    for candidate in _checkpoints(path):
        try:
            checkpoint = _load(candidate)
        except (FileError, OSError) as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(
                f"{'; '.join(problems)}; using {candidate.name} instead", stacklevel=2
            )
        return checkpoint
    if problems:
        raise FileError(
            f"no checkpoint in {path} loads: {'; '.join(problems)}; remove them to "
            "begin anew"
        )
    raise FileNotFoundError(f"no checkpoint in {path}; train first, or name its folder")


def latest(folder):
    """The path of the checkpoint of the highest step in `folder`, or None."""
    return next(iter(_checkpoints(Path(folder))), None)


def _checkpoints(folder):
    """The paths of the checkpoints in `folder`, newest first."""
    paths = folder.glob("checkpoint-*.safetensors")
    named = [path for path in paths if _NAME.fullmatch(path.name)]
    return sorted(named, key=_step_of, reverse=True)


def _step_of(path):
    return int(_NAME.fullmatch(path.name)[1])


def _load(path):
    arrays, metadata = load_arrays(path)
    try:
        step, info = int(metadata[_STEP]), json.loads(metadata[_INFO])
    except (KeyError, ValueError, RecursionError):
        raise FileError(
            f"{path} holds arrays but no training state; load it with load_arrays"
        ) from None
    return Checkpoint(step, arrays, info, path)


def jsonable(value, where):
    """`value` with NumPy scalars as Python's; refuses what JSON would lose."""
    if isinstance(value, np.bool_ | np.integer | np.floating):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}; keys must be strings")
        return {k: jsonable(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v, f"{where}[{i}]") for i, v in enumerate(value)]
    raise TypeError(
        f"{where} is of type {type(value).__name__}, which JSON cannot hold; arrays "
        "belong into `arrays`, the rest into numbers, strings, lists and dicts"
    )
