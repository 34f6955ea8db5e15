"""A training run as arrays and JSON, and back: what a checkpoint holds."""

import json

import numpy as np

from .. import __version__, random, threads
from ..backend import is_array, to_device
from .checkpoint import jsonable

_STEPS = "history.steps"


class OtherRunError(ValueError):
    """A folder that holds the checkpoint of another run."""


def pack(run):
    """(arrays, info) that hold all of a run but its data, model class and settings."""
    arrays = {f"model.{n}": a for n, a in run.model.state_dict().items()}
    arrays |= {f"best.{n}": a for n, a in (run.best_weights or {}).items()}
    state = run.optimizer.state_dict()
    counts, scaler = {}, run.precision.scaler
    for index, entry in state["state"].items():
        for name, value in entry.items():
            if is_array(value):
                arrays[f"optimizer.{index}.{name}"] = value
            else:
                counts[f"{index}.{name}"] = value
    arrays = {name: to_device(array, "cpu") for name, array in arrays.items()}
    # as an array: a file's header, where `info` is, takes less than a million steps
    rows = json.dumps(jsonable(run.history.steps, "history.steps"))
    arrays[_STEPS] = np.frombuffer(rows.encode(), np.uint8)
    info = {
        "run": run.info,
        "optimizer": {"groups": state["param_groups"], "counts": counts},
        "schedule": None if run.schedule is None else run.schedule.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "random": random.get_state(),
        "evaluations": run.history.evaluations,
        "best": run.best,
        "seconds": run.seconds,
        "same": _same_in_both(run),
        "cores": cores(run),
        "versions": {"minibig": __version__, "numpy": np.__version__},
    }
    return arrays, info


def unpack(run, checkpoint):
    """Puts a run where the checkpoint was taken.

    Settings of optimizer and schedule come from the checkpoint. Raises OtherRunError,
    the run left as it was, where it belongs to another one: other data, order of
    batches, clipping, kind of optimizer or schedule, other `info`, a model of another
    shape.
    """
    info = checkpoint.info
    if "same" not in info:
        raise OtherRunError(
            f"{checkpoint.path} is no checkpoint of fit: give another folder"
        )
    if _STEPS not in checkpoint.arrays:
        raise OtherRunError(
            f"{checkpoint.path} was written by an earlier minibig: give another "
            "folder, or remove that one"
        )
    _compare(checkpoint.path, info["same"], _same_in_both(run))
    _compare(checkpoint.path, info["run"], run.info)
    weights, best, state = {}, {}, {}
    steps = json.loads(checkpoint.arrays.pop(_STEPS).tobytes())
    for name, array in checkpoint.arrays.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, slot = rest.partition(".")
            state.setdefault(int(index), {})[slot] = array
        else:
            {"model": weights, "best": best}[kind][rest] = array
    for name, count in info["optimizer"]["counts"].items():
        index, _, slot = name.partition(".")
        state.setdefault(int(index), {})[slot] = count
    before = {name: array.copy() for name, array in run.model.state_dict().items()}
    try:
        run.model.load_state_dict(weights)
        run.optimizer.load_state_dict(
            {"state": state, "param_groups": info["optimizer"]["groups"]}
        )
    except ValueError as error:
        run.model.load_state_dict(before)
        raise OtherRunError(
            f"{checkpoint.path} belongs to another run: {error}"
        ) from error
    if run.schedule is not None:
        run.schedule.load_state_dict(info["schedule"])
    if run.precision.scaler is not None:
        run.precision.scaler.load_state_dict(info["scaler"])
    random.set_state(info["random"])
    run.step, run.seconds, run.best = checkpoint.step, info["seconds"], info["best"]
    run.best_weights, run.cores_before = best or None, info.get("cores")
    run.history.steps, run.history.evaluations = steps, info["evaluations"]


def cores(run):
    """What a CPU's sums are shared among, in words; a run is the same bit for bit with
    the same of them. None on a GPU."""
    if run.model.device != "cpu":
        return None
    return f"processes={run.processes} and {threads.get_num_threads()} threads"


def _same_in_both(run):
    """What a run and the one that takes it up must share to be one."""
    return {
        "the model": type(run.model).__name__,
        "the data (hash)": run.loader.hash,
        "the batch size": getattr(run.loader, "batch_size", None),
        "the loader's seed": getattr(run.loader, "seed", None),
        "the loader's shuffle": run.loader.shuffle,
        "the number of batches in an epoch": len(run.loader),
        "accumulate": run.accumulate,
        "clip_norm": run.clip_norm,
        "precision": run.precision.name,
        "the optimizer": type(run.optimizer).__name__,
        "the schedule": run.schedule and type(run.schedule).__name__,
    }


def _compare(path, saved, ours):
    for what in [*ours, *sorted(saved.keys() - ours.keys())]:
        if _differ(saved.get(what), ours.get(what)):
            raise OtherRunError(
                f"{path} belongs to another run: {what} was {saved.get(what)!r} there "
                f"and is {ours.get(what)!r} here; give another folder, or remove that "
                "one"
            )


def _differ(a, b):
    """Whether two JSON values differ; a NaN is what another NaN is, as their text is"""
    texts = (json.dumps(x, sort_keys=True, default=repr) for x in (a, b))
    return a != b and len(set(texts)) == 2
