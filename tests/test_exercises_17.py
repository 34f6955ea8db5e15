"""The exercises of notebook 17: their solutions are what the library and kernels do."""

import numpy as np
import pytest

from minibig.exercises.course import nb17
from minibig.kernels import Module, attention, emulator, parse, read
from minibig.ops.attention import scaled_dot_product_attention


def test_merged_pieces_are_the_softmax_of_all_keys():
    rng = np.random.default_rng(0)
    scores, values = 5 * rng.standard_normal((6, 20)), rng.standard_normal((20, 3))

    def piece(s, v):
        e = np.exp(s - s.max(1, keepdims=True))
        return s.max(1), e.sum(1), e @ v

    cuts = np.split(np.arange(20), [1, 8, 9])
    pieces = [piece(scores[:, i], values[i]) for i in cuts]
    m, total, mixed = pieces[0]
    for other in pieces[1:]:
        m, total, mixed = nb17.merge.solution((m, total, mixed), other)
    e = np.exp(scores)
    np.testing.assert_allclose(mixed / total[:, None], e @ values / e.sum(1)[:, None])
    np.testing.assert_allclose(m + np.log(total), np.log(e.sum(1)))


@pytest.mark.parametrize("case", nb17.dkv_tiles.cases, ids=lambda case: case.name)
def test_dkv_tiles_are_those_with_a_pair_that_may_attend(case):
    queries, keys, offset, own, other = case.make()
    seen = np.arange(keys) <= np.arange(queries)[:, None] + offset
    tiles = [
        seen[t : t + other, s : s + own].any()
        for t in range(0, queries, other)
        for s in range(0, keys, own)
    ]
    assert nb17.dkv_tiles.solution(*case.make()) == sum(tiles)


@pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))
def test_the_kernel_visits_as_many_tiles_of_queries():
    name, T, D = "attention_flash_backward.cu", 150, 32
    walk = "const long long row = head * T + start;"
    text = read(name).text
    assert text.count(walk) == 1
    text = (
        "static unsigned tiles;\n"
        + text.replace(walk, f"{walk} tiles += threadIdx.x == 0;")
        + "template <typename Number, int D> __global__ void take(unsigned* count)"
        + " { count[0] = tiles; }\n"
    )
    module, count = Module(parse(name, text), "float", D), np.zeros(1, "uint32")
    x = np.zeros((1, 1, T, D), "float32")
    row = np.zeros((1, 1, T), "float32")
    blocks, settings = -(-T // 64), (1, 1, T, T, 0, 1.0)
    module["attention_flash_dkv"](
        (blocks, 1, 1), (128,), x, x, x, None, x, row, row, x.copy(), x.copy(),
        *settings, shared=4 * (192 * (D + 4) + 64 * 36),
    )  # fmt: skip
    module["take"]((1,), (1,), count)
    assert count[0] == nb17.dkv_tiles.solution(T, T, 0, 64, 32)


@pytest.mark.parametrize("case", nb17.backward.cases, ids=lambda case: case.name)
def test_backward_is_the_librarys(case):
    q, k, v, mask, out, _, dout = case.make()
    theirs, backward = scaled_dot_product_attention(q, k, v, mask=mask[None])
    np.testing.assert_allclose(out, theirs, atol=1e-12)
    found = nb17.backward.solution(*case.make())
    for ours, other in zip(found, backward(dout), strict=False):
        np.testing.assert_allclose(ours, other, atol=1e-9)


def test_least_bytes_count_the_arrays_of_the_rungs():
    B, H, G, T, S, D = 2, 4, 2, 3, 5, 32
    q, k = np.zeros((B, H, T, D), "float32"), np.zeros((B, G, S, D), "float32")
    p = attention.problem(q, k, k, None, False, 0, None)
    weights, lse = B * H * T * S * 4, p.rows * 4
    vectors = 2 * q.nbytes + 2 * k.nbytes
    ours = nb17.least_bytes.solution(B, H, G, T, S, D, 4)
    assert ours == (vectors + 5 * weights, vectors + lse)
