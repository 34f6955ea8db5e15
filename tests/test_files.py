"""Atomic writes, and arrays that come back bit for bit."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from minibig import files
from minibig.files import FileError, atomic_write, load_arrays, match_names, save_arrays

BASE = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)

LAYOUTS = {
    "contiguous": BASE,
    "transposed": BASE.T,
    "strided": BASE[::2, 1::3],
    "negative stride": BASE[::-1, ::-2],
    "Fortran order": np.asfortranarray(BASE),
    "broadcast": np.broadcast_to(BASE[0], (3, 8)),
    "broadcast to one": np.broadcast_to(np.float32(3), (1, 1)),
    "three axes permuted": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    "0-d": np.array(1.5),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.int16),
    "empty, strided": np.zeros((4, 0, 3))[::2],
    "big-endian": np.arange(5, dtype=">f8"),
    "big-endian, strided": np.arange(9, dtype=">i4")[::-2],
    "read-only": np.frombuffer(b"12345678", np.uint16),
    "unaligned": np.frombuffer(b"x123456789abcdefg", np.float32, 4, offset=1),
    "float16": BASE.astype(np.float16),
    "float64 specials": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    "booleans": BASE > 0,
    "booleans, strided": (BASE > 0)[:, ::3],
    **{
        np.dtype(code).name: np.array([0, 1, np.iinfo(code).max], code)[::-1]
        for code in "bBhHiIqQ"
    },
}


def same(a, b):
    """Whether two arrays have one shape, dtype (but for byte order) and bits."""
    a = np.asarray(a)
    native = a.astype(a.dtype.newbyteorder("="))
    return (b.shape, b.dtype) == (a.shape, native.dtype) and (
        b.tobytes() == native.tobytes()
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip_is_bit_equal(layout, tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"x": LAYOUTS[layout]})
    arrays, metadata = load_arrays(path)
    assert list(arrays) == ["x"] and metadata == {}
    assert same(LAYOUTS[layout], arrays["x"])
    assert arrays["x"].flags.writeable and arrays["x"].flags.c_contiguous


def test_many_arrays_odd_names_and_metadata_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {f"{name} é\n\"{{'日本": array for name, array in LAYOUTS.items()} | {
        "": np.arange(3)
    }
    metadata = {"é": 'line\n"quoted" 日本', "": ""}
    save_arrays(path, arrays, metadata)
    loaded, text = load_arrays(str(path))
    assert text == metadata and loaded.keys() == arrays.keys()
    assert all(same(arrays[name], loaded[name]) for name in arrays)


def test_saving_changes_neither_arrays_nor_metadata(tmp_path):
    array, metadata = BASE.copy().T, {"k": "v"}
    save_arrays(tmp_path / "a.safetensors", {"x": array}, metadata)
    assert metadata == {"k": "v"} and same(BASE.T, array)


def test_equal_arrays_give_equal_bytes(tmp_path):
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_arrays(one, {"a": BASE, "b": BASE[0]}, {"x": "1", "y": "2"})
    save_arrays(two, {"b": BASE[0].copy(), "a": BASE}, {"x": "1", "y": "2"})
    assert one.read_bytes() == two.read_bytes()


def test_the_safetensors_library_reads_what_is_written(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    save_arrays(path, LAYOUTS, {"k": "v"})
    loaded = library.load_file(path)
    assert loaded.keys() == LAYOUTS.keys()
    assert all(same(LAYOUTS[name], loaded[name]) for name in LAYOUTS)


def test_files_of_the_safetensors_library_are_read(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    arrays = {name: np.array(array, order="C") for name, array in LAYOUTS.items()}
    library.save_file(arrays, path, {"k": "v"})
    loaded, metadata = load_arrays(path)
    assert metadata == {"k": "v"} and loaded.keys() == arrays.keys()
    assert all(same(arrays[name], loaded[name]) for name in arrays)


@pytest.mark.oracle
def test_bfloat16_is_widened_exactly(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)  # every bfloat16 there is
    every = bits.repeat(5).view(torch.bfloat16).reshape(5, 2**16)
    save_file({"w": every, "0": every[0, 0].clone()}, tmp_path / "a.safetensors")
    loaded, _ = load_arrays(tmp_path / "a.safetensors")
    wide = every.to(torch.float32).numpy()
    assert loaded["w"].dtype == np.float32 and loaded["0"].shape == ()
    np.testing.assert_array_equal(loaded["w"].view("u4"), wide.view("u4"))


@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("x", np.array([None]), "object"),
        ("x", np.array(["text"]), "<U4"),
        ("x", np.array([b"bytes"]), "S5"),
        ("x", np.ones(2, np.complex64), "complex64"),
        ("x", np.ones(2, np.longdouble), np.dtype(np.longdouble).name),
        ("x", np.array(["2001-01-01"], "M8[D]"), "datetime64"),
        ("x", np.zeros(2, [("a", "f4")]), "'a'"),
        ("x", [1.0, 2.0], "list"),
        ("x", None, "NoneType"),
        (3, BASE, "3"),
        ("__metadata__", BASE, "__metadata__"),
        ("\ud800", BASE, "ud800"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_file_is_touched(
    name, value, fact, tmp_path
):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileError) as caught:
        save_arrays(path, {"first": BASE, name: value})
    assert fact in str(caught.value) and "a.safetensors" in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "metadata", [{"step": 3}, {3: "step"}, {"k": "\udfff"}, {"minibig.sha256": ""}]
)
def test_metadata_must_be_text(metadata, tmp_path):
    with pytest.raises(FileError, match="metadata"):
        save_arrays(tmp_path / "a.safetensors", {"x": BASE}, metadata)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a"])
def test_other_suffixes_are_not_written(name, tmp_path):
    with pytest.raises(FileError, match=r"\.safetensors"):
        save_arrays(tmp_path / name, {"x": BASE})


def test_an_oversize_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("minibig.safetensors._MAX_HEADER", 500)
    with pytest.raises(FileError, match="100 MB is most"):
        save_arrays(tmp_path / "a.safetensors", {}, {"k": "x" * 500})
    assert os.listdir(tmp_path) == []


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_errors_of_the_disk_are_raised(step, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setattr(files.os, step, full)
    with (
        pytest.raises(OSError, match=r"No space.*f'$"),
        atomic_write(tmp_path / "f") as file,
    ):
        file.write(b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_file_then_folder_reach_the_disk_around_the_rename(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("folder" if folder else f"{os.fstat(descriptor).st_size} bytes")
        sync(descriptor)

    def rename(source, target):
        calls.append("rename")
        assert os.path.dirname(source) == str(tmp_path)
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", rename)
    with atomic_write(tmp_path / "f") as file:
        file.write(b"12345")
    assert calls == ["5 bytes", "rename", "folder"]


@pytest.mark.parametrize(("number", "raised"), [(22, False), (5, True)])
def test_only_a_folder_that_cannot_be_synced_is_excused(
    number, raised, tmp_path, monkeypatch
):
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "folder")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    if raised:
        with pytest.raises(OSError, match="folder"), atomic_write(tmp_path / "f"):
            pass
    else:
        with atomic_write(tmp_path / "f"):
            pass
    assert (tmp_path / "f").exists()


def test_a_dead_writers_file_is_removed_and_a_living_ones_kept(tmp_path):
    script = (
        "import os, sys; from minibig.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: os._exit(9)"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "dead"])
    assert run.returncode == 9
    (left,) = os.listdir(tmp_path)
    (tmp_path / ".mine.tmp").write_bytes(b"of another program")
    with atomic_write(tmp_path / "alive") as file:
        assert left not in os.listdir(tmp_path)
        with atomic_write(tmp_path / "other"):
            assert os.path.exists(file.name)
        file.write(b"done")
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "alive", "other"]
    assert (tmp_path / "alive").read_bytes() == b"done"


def test_a_writer_whose_file_was_taken_for_abandoned_starts_another(
    tmp_path, monkeypatch
):
    if files.fcntl is None:
        pytest.skip("Windows has no flock: an open file cannot be removed there")
    lock, opened = files.fcntl.flock, []

    def flock(file, how):
        if not opened:  # as if another's clean-up came between open and lock
            os.unlink(file.name)
        opened.append(file.name)
        lock(file, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with atomic_write(tmp_path / "f") as file:
        file.write(b"whole")
    assert len(opened) == 2 and os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"whole"


def test_where_files_cannot_be_locked_writing_works_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    (tmp_path / ".f.00.minibig-partial").write_bytes(b"left")
    with atomic_write(tmp_path / "f") as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == ["f"]


def test_targets_that_cannot_be_are_named(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="no_such"),
        atomic_write(tmp_path / "no_such" / "f"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="is a folder"), atomic_write(tmp_path):
        pass


def test_matching_names_pass():
    match_names({"w": (2, 3), "b": (3,)}, {"b": [3], "w": (2, 3)})


def test_all_differences_stand_in_one_error():
    expected = {"w": (2, 3), "b": (3,), "scale": (), "h.w": (1,)}
    found = {"w": (3, 2), "scale": (), "extra": (1,), "model.b": (3,)}
    with pytest.raises(ValueError) as caught:
        match_names(expected, found, what="the state of Linear")
    assert str(caught.value) == (
        "the state of Linear does not fit; missing: b, h.w; unexpected: extra, "
        "model.b; wrong shape: w is (3, 2), not (2, 3); "
        "hint: its names begin with 'model.'"
    )


def test_long_lists_of_names_are_cut():
    with pytest.raises(ValueError, match=r"w8, w9, and 90 more$"):
        match_names({f"w{i}": () for i in range(100)}, {})
