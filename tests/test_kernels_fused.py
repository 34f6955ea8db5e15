"""Kernels beyond attention: each against the plain-array op in float64, both passes.

On the emulator, and on a GPU where there is one, with canaries around what kernels
write; and the faults that the emulator must notice.
"""

import numpy as np
import pytest
from kernel_passes import (
    DTYPES,
    TOLERANCE,
    agrees,
    between_canaries,
    drawn,
    dtype_of,
    passes,
)

from minibig import backend, kernels
from minibig.kernels import activation, embedding, emulator, norm, parameters, source
from minibig.kernels import cross_entropy as cross_entropy_kernels
from minibig.kernels import softmax as softmax_kernels
from minibig.ops import elementwise, indexing, losses, normalization
from minibig.ops import softmax as softmax_ops

needs_emulator = pytest.mark.skipif(
    emulator.missing() is not None, reason=str(emulator.missing())
)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request, monkeypatch):
    """ "cpu", that is the emulator, or "cuda", with canaries around all outputs."""
    if request.param == "cpu" and emulator.missing():
        pytest.skip(emulator.missing())
    written = []
    if request.param == "cuda":
        for module in fused_modules():
            monkeypatch.setattr(module, "empty", between_canaries(written))
    yield request.param
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()


def fused_modules():
    return [m for m in vars(kernels).values() if hasattr(m, "empty")]


def test_more_rows_than_a_grid_has_are_not_served():
    x = np.broadcast_to(np.float32(0), (2**31, 1))  # 4 bytes in memory
    assert softmax_kernels.softmax(x) is None
    assert softmax_kernels.log_softmax(x) is None
    assert norm.layer_norm(x, None, None) is None
    ids = np.broadcast_to(0, len(x))
    assert cross_entropy_kernels.cross_entropy(x, ids=ids) is None


# ---- softmax ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 3, 33), (5, 129), (2, 2600)])
def test_softmax_agrees_with_the_op(name, shape, dtype, machine):
    x = (3 * drawn(*shape)).astype(dtype_of(dtype))
    kernel = getattr(softmax_kernels, name)
    agrees(kernel, getattr(softmax_ops, name), [x], machine)


@needs_emulator
def test_softmax_of_what_is_masked_and_of_what_is_large():
    x = drawn(3, 300) * 1000
    x[0, :299], x[1, 5:] = -np.inf, -np.inf
    y, backward = softmax_kernels.softmax(x)
    expected = softmax_ops.softmax(x.astype("float64"))[0]
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert np.isfinite(backward(y)[0]).all()
    x[2, 7] = np.nan
    assert np.isnan(softmax_kernels.softmax(x)[0][2]).all()
    assert np.isnan(softmax_kernels.softmax(np.full((1, 9), -np.inf, "f"))[0]).all()


@needs_emulator
def test_softmax_is_the_same_in_every_order_of_threads():
    x = drawn(2, 1000)
    y, backward = softmax_kernels.softmax(x)
    with emulator.shuffled(3):
        again, backward_again = softmax_kernels.softmax(x)
        np.testing.assert_array_equal(again, y)
        np.testing.assert_array_equal(backward_again(x)[0], backward(x)[0])


# ---- norms --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 33), (70, 129), (200, 5)])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norm_agrees_with_the_op(name, shape, dtype, machine):
    arrays = [drawn(*shape, dtype=dtype), drawn(shape[-1], seed=1, dtype=dtype)]
    if name == "layer_norm":
        arrays.append(drawn(shape[-1], seed=2, dtype=dtype))
    agrees(getattr(norm, name), getattr(normalization, name), arrays, machine)


@pytest.mark.parametrize("given", ["none", "weight", "bias"])
def test_norm_without_some_of_its_parameters(given, machine):
    weight = drawn(33, seed=1) if given == "weight" else None
    bias = drawn(33, seed=2) if given == "bias" else None
    x = drawn(9, 33)
    agrees(norm.layer_norm, normalization.layer_norm, [x, weight, bias], machine)
    agrees(norm.rms_norm, normalization.rms_norm, [x, weight], machine, eps=0.1)


@needs_emulator
def test_layer_norm_of_numbers_far_from_zero_keeps_its_digits():
    x = drawn(4, 300) + 3000
    y, _ = norm.layer_norm(x, None, None)
    expected, _ = normalization.layer_norm(x.astype("float64"), None, None)
    np.testing.assert_allclose(y, expected, atol=1e-3)


@needs_emulator
def test_gradients_of_a_norms_parameters_are_the_same_in_every_order():
    x, weight = drawn(300, 40), drawn(40, seed=1)
    first = passes(norm.layer_norm, [x, weight, weight], {}, x)
    with emulator.shuffled(3):
        again = passes(norm.layer_norm, [x, weight, weight], {}, x)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- cross-entropy ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, ignore_index, label_smoothing", [
    ((3, 1), -100, 0.0), ((2, 5, 33), -100, 0.0), ((9, 129), 4, 0.1),
    ((5, 2600), None, 0.3),
])  # fmt: skip
def test_cross_entropy_agrees_with_the_op(
    shape, ignore_index, label_smoothing, dtype, machine
):
    ids = np.random.default_rng(1).integers(0, shape[-1], shape[:-1])
    if ignore_index is not None:
        ids.flat[1] = ignore_index
    settings = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}

    def kernel(x, **given):
        there = backend.to_device(ids, machine)
        return cross_entropy_kernels.cross_entropy(x, ids=there, **given)

    x, dy = drawn(*shape, dtype=dtype), drawn(*shape[:-1], seed=9)
    loss, dx = passes(kernel, [x], settings, dy, machine)
    exact_settings = {**settings, "ids": ids}
    exact = passes(losses.cross_entropy, [x.astype("float64")], exact_settings, dy)
    assert loss.dtype == "float32" and dx.dtype == x.dtype
    np.testing.assert_allclose(loss, exact[0], atol=3e-6)
    np.testing.assert_allclose(dx.astype("float64"), exact[1], atol=TOLERANCE[dtype])


@needs_emulator
def test_ignored_rows_cost_and_learn_nothing_though_they_are_nan():
    x, ids = drawn(3, 40), np.array([5, -100, 7])
    x[1] = np.nan
    loss, backward = cross_entropy_kernels.cross_entropy(x, ids=ids)
    (dx,) = backward(np.ones(3, "float32"))
    assert loss[1] == 0 and not dx[1].any() and np.isfinite(loss).all()


@needs_emulator
def test_an_id_outside_of_the_classes_is_not_looked_up():
    x = drawn(2, 40)
    loss, backward = cross_entropy_kernels.cross_entropy(x, ids=np.array([40, -7]))
    assert np.isinf(loss).all()
    assert np.isfinite(backward(np.ones(2, "float32"))[0]).all()


# ---- activations --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5, 3), (1025,)])
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_activation_agrees_with_the_op(name, shape, dtype, machine):
    x = np.asarray(3 * drawn(*shape)).astype(dtype_of(dtype))
    op = getattr(elementwise, name)
    agrees(lambda x: activation.activation(name, x), op, [x], machine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (3, 5, 9)])
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_activation_adds_the_bias_of_the_column(name, shape, dtype, machine):
    agrees_with_bias(name, shape, dtype, machine)


def agrees_with_bias(name, shape, dtype="float32", machine="cpu"):
    x, bias = (drawn(*s, dtype=dtype) for s in (shape, shape[-1:]))

    def op(x):
        return getattr(elementwise, name)(x + bias.astype(x.dtype))

    def kernel(x):
        return activation.activation(name, x, backend.to_device(bias, machine))

    agrees(kernel, op, [x], machine)


@needs_emulator
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_activation_of_large_numbers_stays_finite(name):
    x = np.array([-1e4, -100, 0, 100, 1e4], "float32")
    y, backward = activation.activation(name, x)
    np.testing.assert_allclose(y, [0, 0, 0, 100, 1e4])
    np.testing.assert_allclose(backward(np.ones(5, "f"))[0], [0, 0, 0.5, 1, 1])


# ---- embedding ----------------------------------------------------------------------

IDS = {
    "one": [2], "all the same": [1] * 200, "all different": range(5),
    "ends on a chunk": [0] * 31 + [1] * 33 + [3] * 32, "drawn": None,
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 130])
@pytest.mark.parametrize("name", IDS)
def test_embeddings_gradient_agrees_with_the_op(name, width, dtype, machine):
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 5, 333) if IDS[name] is None else rng.permutation(IDS[name])
    dy = drawn(len(ids), width, dtype=dtype)
    arrays = [backend.to_device(x, machine) for x in (ids, dy)]
    ours = backend.to_device(embedding.add_rows(*arrays, 6), "cpu")
    exact = indexing.add_rows(ids, dy.astype("float64"), 6)
    assert ours.dtype == dy.dtype and not ours[5].any()
    error = np.abs(ours.astype("float64") - exact).max() / np.abs(exact).max()
    assert error < TOLERANCE[dtype]


@needs_emulator
def test_embeddings_gradient_is_the_same_in_every_order_of_threads():
    ids, dy = np.random.default_rng(2).integers(0, 5, 333), drawn(333, 7)
    first = embedding.add_rows(ids, dy, 5)
    with emulator.shuffled(3):
        np.testing.assert_array_equal(embedding.add_rows(ids, dy, 5), first)


@needs_emulator
def test_ids_outside_of_the_table_are_left_out():
    found = embedding.add_rows(np.array([-1, 0, 7] * 50), drawn(150, 3), 2)
    assert found[0].any() and not found[1].any()


# ---- a step of Adam -----------------------------------------------------------------


def test_a_step_writes_nothing_beside_its_parameters(machine):
    written, arrays = [], []
    for i in range(4):
        x = between_canaries(written)(backend.to_device(drawn(4099), machine))
        x[...] = backend.to_device(np.abs(drawn(4099, seed=i)), machine)
        arrays.append(x)
    numbers = dict.fromkeys(parameters._FLOATS, 0.5)
    before = backend.to_device(arrays[1], "cpu").copy()
    parameters.adam([(*arrays, numbers)])
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()
    _, g, m, _ = (backend.to_device(x, "cpu") for x in arrays)
    np.testing.assert_array_equal(g, before)
    first = [np.abs(drawn(4099, seed=i)) for i in range(4)]
    np.testing.assert_allclose(m, first[2] * 0.5 + (g + first[0] / 4) / 2, rtol=1e-5)


# ---- clipping -----------------------------------------------------------------------


def gradients_between_canaries(machine):
    """Three gradients, and the arrays in whose middles they lie."""
    written = []
    for i, size in enumerate((4099, 1, 8192)):
        x = between_canaries(written)(backend.to_device(drawn(size), machine))
        x[...] = backend.to_device(drawn(size, seed=i), machine)
        yield x, written[-1]


def scaled(kernel, machine):
    """Holds gradient_scale or gradient_clip against NumPy, bit by bit."""
    arrays, written = zip(*gradients_between_canaries(machine), strict=True)
    before = [backend.to_device(x, "cpu").copy() for x in arrays]
    if kernel == "scale":
        parameters.scale_gradients(arrays, 1 / 3)
    else:
        norm = backend.to_device(np.array(5.0), machine)
        parameters.clip_gradients(arrays, norm, 5 / 3)
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()
    factor = np.float32(1 / 3 if kernel == "scale" else 5 / 3 / (5 + 1e-6))
    for x, g in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(backend.to_device(x, "cpu"), g * factor)


@pytest.mark.parametrize("kernel", ["scale", "clip"])
def test_gradients_are_scaled_and_nothing_beside_them(kernel, machine):
    scaled(kernel, machine)


def cast_between_canaries(machine):
    written, sizes = [], (4099, 1, 8192)
    arrays = [backend.to_device(drawn(size, seed=size), machine) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "empty", between_canaries(written))
        found = parameters.cast(arrays, "float16")
    for whole, start, stop in written:
        whole = backend.to_device(whole, "cpu")
        assert (whole[:start] == 255).all() and (whole[stop:] == 255).all()
    for x, size in zip(found, sizes, strict=True):
        exact = drawn(size, seed=size).astype("float16")
        np.testing.assert_array_equal(backend.to_device(x, "cpu"), exact)


def test_casts_write_nothing_beside_their_results(machine):
    cast_between_canaries(machine)


def test_gradients_below_the_limit_are_not_written(machine):
    """A signalling NaN shows it: the product with 1 would set its highest bit."""
    bits = np.full(5000, 0x7FA00000, "uint32")
    g = backend.to_device(bits.copy(), machine).view("float32")
    norm = backend.to_device(np.array(2.0), machine)
    parameters.clip_gradients([g], norm, 2.1)
    np.testing.assert_array_equal(backend.to_device(g.view("uint32"), "cpu"), bits)
    parameters.clip_gradients([g], norm, 2.0)  # by PyTorch's 1e-6
    assert (backend.to_device(g.view("uint32"), "cpu") != bits).all()


# ---- planted faults -----------------------------------------------------------------

FAULTS = [
    ("softmax_forward.cu", "__syncthreads();  // all", "// all"),
    ("softmax_forward.cu", "parts[warp] = x;\n  __syncthreads();", "parts[warp] = x;"),
    ("softmax_forward.cu", "i < width", "i <= width"),
    ("norm_backward.cu", "= x;\n  __syncthreads();", "= x;"),
    ("norm_backward.cu", "|| column >= width) return", ") return"),
    ("norm_backward.cu", "r < rows; r", "r <= rows; r"),
    ("cross_entropy_forward.cu", "0 <= id && id < classes", "true"),
    ("activation_forward.cu", "if (i < count)", "if (i <= count)"),
    ("activation_backward.cu", "+ (int)blockDim.x) % width", "+ 1) % width"),
    ("embedding_backward.cu", "first + CHUNK, count", "first + CHUNK, count + 1"),
    ("embedding_backward.cu", "if (!begins || !ends)", "if (!begins)"),
    ("gradient_clip.cu", "  __syncthreads();\n", ""),
    ("gradient_clip.cu", "threadIdx.x == 0", "blockIdx.x == 0"),
    ("gradient_clip.cu", "i < end", "i <= end"),
    ("cast.cu", "i < end", "i <= end"),
]


@needs_emulator
@pytest.mark.parametrize("file, right, wrong", FAULTS)
def test_a_planted_fault_shows(file, right, wrong, monkeypatch):
    text = source.read(file).text
    assert right in text
    parsed = source.parse(file, text.replace(right, wrong))
    module = {"softmax": softmax_kernels, "norm": norm, "embedding": embedding,
              "cross": cross_entropy_kernels, "activation": activation,
              "gradient": parameters, "cast": parameters}  # fmt: skip
    subject = file.removesuffix(".cu").split("_")[0]
    module = module[subject]
    real = kernels.load

    def load(name, *template):
        return (kernels.Module(parsed, *template) if name == file
                else real(name, *template))  # fmt: skip

    monkeypatch.setattr(module, "load", load)
    with pytest.raises((emulator.EmulatorError, AssertionError)):
        for seed in range(4):
            with emulator.shuffled(seed):
                PLANTED[subject]()


def _outside():
    cross_entropy_kernels.cross_entropy(drawn(2, 40), ids=np.array([5, 10**7]))


def _rows_of_ids():
    ids = np.random.default_rng(2).permutation([0] * 40 + [1, 2] * 20)
    exact = indexing.add_rows(ids, drawn(80, 3).astype("float64"), 3)
    np.testing.assert_allclose(embedding.add_rows(ids, drawn(80, 3), 3), exact,
                               atol=1e-5)  # fmt: skip


PLANTED = {
    "softmax": lambda: agrees(
        softmax_kernels.softmax, softmax_ops.softmax, [drawn(3, 600)]
    ),
    "norm": lambda: agrees(
        norm.layer_norm, normalization.layer_norm,
        [drawn(70, 33), drawn(33), drawn(33, seed=1)],
    ),
    "activation": lambda: agrees_with_bias("gelu", (2, 510)),
    "cross": _outside,
    "embedding": _rows_of_ids,
    "gradient": lambda: scaled("clip", "cpu"),
    "cast": lambda: cast_between_canaries("cpu"),
}  # fmt: skip
