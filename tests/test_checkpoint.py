"""Checkpoints: what is saved comes back, and a killed save loses nothing."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minibig.files import FileError, save_arrays
from minibig.training.checkpoint import (
    Checkpoint,
    latest,
    load_checkpoint,
    save_checkpoint,
)

ARRAYS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "t": np.array(3)}


def names(folder):
    return sorted(os.listdir(folder))


def test_what_is_saved_comes_back(tmp_path):
    info = {"loss": [0.1, 1e-300], "name": "é", "none": None, "nested": {"a": [{}]}}
    path = save_checkpoint(tmp_path / "new" / "run", 1200, ARRAYS, info)
    assert path == tmp_path / "new" / "run" / "checkpoint-00001200.safetensors"
    for source in (path, path.parent, str(path.parent)):
        loaded = load_checkpoint(source)
        assert isinstance(loaded, Checkpoint)
        assert (loaded.step, loaded.info, loaded.path) == (1200, info, path)
        assert loaded.arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(loaded.arrays[name], array, strict=True)


def test_nan_infinities_and_numpy_scalars_in_info_survive(tmp_path):
    info = {
        "nan": math.nan,
        "best": math.inf,
        "low": np.float32("-inf"),
        "loss": np.float32(0.1),
        "exact": np.float64(0.1),
        "step": np.int64(2**62),
        "done": np.bool_(True),
        "state": 2**127 + 1,
        "betas": (0.9, np.float64(0.95)),
    }
    save_checkpoint(tmp_path, 0, {}, info)
    loaded = load_checkpoint(tmp_path).info
    assert math.isnan(loaded.pop("nan"))
    assert loaded == {
        "best": math.inf,
        "low": -math.inf,
        "loss": float(np.float32(0.1)),
        "exact": 0.1,
        "step": 2**62,
        "done": True,
        "state": 2**127 + 1,
        "betas": [0.9, 0.95],
    }
    assert loaded["done"] is True


@pytest.mark.parametrize(
    ("info", "fact"),
    [
        ({"a": {"b": [1, {2}]}}, "info['a']['b'][1] is of type set"),
        ({"a": np.zeros(3)}, "info['a'] is of type ndarray"),
        ({"a": {3: "x"}}, "info['a'] has the key 3"),
        ({"a": 1j}, "complex"),
        ({"a": b"x"}, "bytes"),
    ],
)
def test_info_that_json_would_lose_is_refused(info, fact, tmp_path):
    with pytest.raises(TypeError) as caught:
        save_checkpoint(tmp_path / "run", 1, ARRAYS, info)
    assert fact in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("step", "keep", "error"),
    [(-1, 2, ValueError), (1, 0, ValueError), (1.5, 2, ValueError)],
)
def test_impossible_steps_are_refused(step, keep, error, tmp_path):
    with pytest.raises(error):
        save_checkpoint(tmp_path, step, ARRAYS, {}, keep=keep)
    assert names(tmp_path) == []


def test_the_last_two_are_kept_and_nothing_else_is_touched(tmp_path):
    save_arrays(tmp_path / "best.safetensors", ARRAYS)
    (tmp_path / "checkpoint-notes.safetensors").write_text("mine")
    for step in (8, 9, 10, 10, 123_456_789):
        save_checkpoint(tmp_path, step, ARRAYS, {})
    assert names(tmp_path) == [
        "best.safetensors",
        "checkpoint-00000010.safetensors",
        "checkpoint-123456789.safetensors",
        "checkpoint-notes.safetensors",
    ]
    assert latest(tmp_path).name == "checkpoint-123456789.safetensors"
    save_checkpoint(tmp_path, 123_456_790, ARRAYS, {}, keep=1)
    assert load_checkpoint(tmp_path).step == 123_456_790
    assert len(names(tmp_path)) == 3


def test_going_back_leaves_no_later_checkpoint_to_resume_from(tmp_path):
    for step in (100, 200):
        save_checkpoint(tmp_path, step, ARRAYS, {})
    save_checkpoint(tmp_path, 150, ARRAYS, {})
    assert load_checkpoint(tmp_path).step == 150
    assert [name[-15:-12] for name in names(tmp_path)] == ["100", "150"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_damaged_newest_is_named_and_the_one_before_is_loaded(tmp_path):
    save_checkpoint(tmp_path, 1, ARRAYS, {"loss": 3})
    damage(save_checkpoint(tmp_path, 2, ARRAYS, {"loss": 2}))
    with pytest.warns(UserWarning, match="00000002.*SHA-256.*using .*00000001") as seen:
        loaded = load_checkpoint(tmp_path)
    assert (loaded.step, loaded.info) == (1, {"loss": 3})
    assert len(seen) == 1 and seen[0].filename == __file__


def test_damage_to_the_info_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, 2, ARRAYS, {"loss": 2.5})
    content = path.read_bytes()
    assert content.count(b"2.5") == 1
    path.write_bytes(content.replace(b"2.5", b"2.4"))
    with pytest.raises(FileError, match="SHA-256"):
        load_checkpoint(path)


def test_where_none_loads_each_is_named(tmp_path):
    for step in (1, 2):
        damage(save_checkpoint(tmp_path, step, ARRAYS, {}))
    with pytest.raises(FileError, match=r"no checkpoint in .*02\..*01\..*; remove"):
        load_checkpoint(tmp_path)


def test_no_checkpoint_is_said_clearly(tmp_path):
    assert latest(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no_such"):
        load_checkpoint(tmp_path / "no_such")


@pytest.mark.parametrize(
    "metadata",
    [{}, {"minibig.step": "1"}, {"minibig.step": "x", "minibig.info": "{}"}],
)
def test_weights_alone_are_no_checkpoint(metadata, tmp_path):
    save_arrays(tmp_path / "best.safetensors", ARRAYS, metadata)
    with pytest.raises(FileError, match="no training state"):
        load_checkpoint(tmp_path / "best.safetensors")


# Forks a writer for each line of its input: a folder, a first step, and a number of C
# calls: so many into writing the second file the writer kills itself (0: it saves until
# it is killed).
NURSERY = """
import os, signal, sys
import numpy as np
from minibig.training.checkpoint import save_checkpoint

def save(folder, step):
    arrays = {name: np.full((512, 512), step, np.int32) for name in "abc"}  # 3 MiB
    save_checkpoint(folder, step, arrays, {"step": step})

def die_after(calls):
    opened = False
    def count(frame, event, argument):
        nonlocal calls, opened
        opened = opened or frame.f_code.co_name == "_open_partial"
        calls -= opened and event == "c_call"
        if not calls:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(count)

def write(folder, step, calls):
    while True:
        save(folder, step)
        os.write(1, f"saved {step}\\n".encode())  # in one piece, whenever it dies
        if calls:
            die_after(calls)
            calls = 0
        step += 1

for line in sys.stdin:
    folder, step, calls = line.split()
    pid = os.fork()
    if not pid:
        write(folder, int(step), int(calls))
    print("writer", pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""


@pytest.fixture
def nursery():
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


def last_saved_before_death(nursery, folder, first, calls=0, delay=0.0):
    """The last step that a writer reported as saved before it was killed."""
    nursery.stdin.write(f"{folder} {first} {calls}\n")
    nursery.stdin.flush()
    saved = pid = None
    killed = bool(calls)
    for line in nursery.stdout:
        word, *number = line.split()
        if word == "dead":
            return saved
        if word == "saved":
            saved = int(number[0])
        else:
            pid = int(number[0])
        if not killed and pid is not None and saved is not None:
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            killed = True
    raise AssertionError("the nursery ended")


def check_newest(folder, saved):
    """The newest checkpoint is whole, and `saved` or the one after it."""
    loaded = load_checkpoint(folder)  # a warning would be an error
    assert loaded.step in (saved, saved + 1)
    assert loaded.info == {"step": loaded.step}
    for array in loaded.arrays.values():
        assert (array == loaded.step).all()
    return loaded.step


def partial_files(folder):
    return [name for name in names(folder) if name.endswith("partial")]


def test_killed_at_20_random_moments_the_previous_or_the_new_loads(nursery, tmp_path):
    draw, step = np.random.default_rng(0), 0
    for delay in draw.uniform(0, 0.06, 20):
        saved = last_saved_before_death(nursery, tmp_path, step + 1, delay=delay)
        step = check_newest(tmp_path, saved)
        assert len(partial_files(tmp_path)) <= 1  # the earlier ones were removed
    save_checkpoint(tmp_path, step + 1, ARRAYS, {})
    assert len(names(tmp_path)) == 2


def test_killed_at_any_call_of_a_save_the_previous_or_the_new_loads(nursery, tmp_path):
    step, steps, interrupted = 0, set(), 0
    for calls in range(1, 61):
        saved = last_saved_before_death(nursery, tmp_path, step + 1, calls=calls)
        step = check_newest(tmp_path, saved)
        steps.add(step - saved)
        interrupted += len(partial_files(tmp_path))
    assert steps == {0, 1}  # some died before the rename, some after it
    assert interrupted > 3
    assert len(names(tmp_path)) <= 4


def test_the_info_stands_readable_in_the_file(tmp_path):
    path = save_checkpoint(tmp_path, 7, ARRAYS, {"loss": 2.5})
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["minibig.info"]) == {"loss": 2.5}
    assert header["__metadata__"]["minibig.step"] == "7"
