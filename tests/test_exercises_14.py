"""The exercises of notebook 14: their solutions are what the library does."""

import json

import numpy as np
import pytest

import minibig as mb
from minibig.exercises.course import nb14
from minibig.files import load_arrays, save_arrays
from minibig.models import BERT, GPT, BERTConfig, GPTConfig


def test_place_is_where_a_saved_array_lies(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "some.safetensors"
    arrays = {name: rng.standard_normal((3, n)) for n, name in enumerate("abc", 1)}
    save_arrays(path, arrays)
    file = path.read_bytes()
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    for name, array in arrays.items():
        begin, end = nb14.place.solution(file, header[name])
        assert file[begin:end] == array.tobytes()


@pytest.mark.parametrize("case", nb14.to_bfloat16.cases, ids=lambda case: case.name)
def test_bfloat16_is_the_nearest_that_a_file_can_hold(case, tmp_path):
    (x,) = case.make()
    bits = nb14.to_bfloat16.solution(x)
    entry = {"dtype": "BF16", "shape": [len(x)], "data_offsets": [0, 2 * len(x)]}
    header = json.dumps({"x": entry}).encode()
    path = tmp_path / "half.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    rounded = load_arrays(path)[0]["x"].astype("float64")
    finite = np.isfinite(x)
    np.testing.assert_array_equal(rounded[~finite], x[~finite])
    for step in (-1, 1):  # neither neighbour is nearer
        near = (bits[finite].astype("int64") + step) % 2**16
        other = (near.astype("uint32") << 16).view("float32")
        away = np.abs(rounded[finite] - x[finite].astype("float64"))
        other_away = np.abs(other.astype("float64") - x[finite].astype("float64"))
        assert (away <= other_away)[np.isfinite(other_away)].all()
        tied = (away == other_away) & (away > 0)
        assert (bits[finite][tied] % 2 == 0).all()


def test_bfloat16_is_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 10_000, dtype="uint32")
    x = bits.view("float32")
    x = x[np.isfinite(x)]
    theirs = torch.tensor(x).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(nb14.to_bfloat16.solution(x), theirs.view("uint16"))


def test_split_qkv_is_how_gpt2_is_loaded(tmp_path):
    model = GPT(GPTConfig(11, 8, 1, 2, 6))
    model.save_pretrained(tmp_path)
    found, _ = load_arrays(tmp_path / "model.safetensors")
    name = "transformer.h.0.attn.c_attn"
    parts = nb14.split_qkv.solution(found[f"{name}.weight"], found[f"{name}.bias"])
    ours = model.blocks[0].self_attn.in_proj
    np.testing.assert_array_equal(np.concatenate(parts[:3]), ours.weight.numpy())
    np.testing.assert_array_equal(np.concatenate(parts[3:]), ours.bias.numpy())


def test_sentence_vectors_are_the_librarys():
    mb.seed(0)
    model = BERT(BERTConfig(11, 8, 1, 2, 6, 12)).eval()
    ids = np.random.default_rng(0).integers(0, 11, (3, 5))
    mask = np.arange(5) < np.array([[5], [2], [1]])
    with mb.no_grad():
        hidden = model(ids, mask).numpy()
        wanted = model.sentence_embeddings(ids, mask).numpy()
    found = nb14.sentence_vectors.solution(hidden, mask)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
