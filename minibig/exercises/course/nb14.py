"""The exercises of notebook 14: bytes, half numbers, GPT-2's matrices, means."""

import numpy as np

from ..exercise import Case, Exercise, Mistake


def _normal(*shape, seed=0):
    return np.random.default_rng([14, seed]).standard_normal(shape)


# ---- 14.place -----------------------------------------------------------------------


def _length(file, order="little"):
    return int.from_bytes(file[:8], order)


def _place(file, entry):
    start = 8 + _length(file)
    begin, end = entry["data_offsets"]
    return start + begin, start + end


def _offsets_alone(file, entry):
    return tuple(entry["data_offsets"])


def _without_the_eight(file, entry):
    begin, end = _place(file, entry)
    return begin - 8, end - 8


def _without_the_header(file, entry):
    begin, end = entry["data_offsets"]
    return 8 + begin, 8 + end


def _begin_and_size(file, entry):
    begin, end = _place(file, entry)
    return begin, end - begin


def _wrong_end_first(file, entry):
    start = 8 + _length(file, "big")
    begin, end = entry["data_offsets"]
    return float(start + begin), float(start + end)


def _file(begin, end, before="", after="", more=0):
    """A file and its header's entry of the array "w", float32 from begin to end."""
    shape = f"[{(end - begin) // 4}]"
    entry = f'"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}'
    header = f"{{{before}{entry}}}{after}".encode()
    file = len(header).to_bytes(8, "little") + header + bytes(end + more)
    return file, {"dtype": "F32", "data_offsets": [begin, end]}


place = Exercise(
    name="14.place",
    task="Where in a safetensors file the bytes of an array begin and end.",
    solution=_place,
    cases=(
        Case("16 bytes at the beginning", lambda: _file(0, 16)),
        Case("8 bytes after them", lambda: _file(16, 24)),
        Case("in the middle", lambda: _file(400, 800, more=40)),
        Case(
            "metadata, and spaces after the header",
            lambda: _file(0, 40, '"__metadata__":{"format":"pt"},', "     "),
            "edge",
        ),
        Case("an array of size 0", lambda: _file(8, 8), "edge"),
    ),
    mistakes=(
        Mistake(
            _offsets_alone,
            "those are the offsets as the header gives them. They count from the end "
            "of the header, not from the beginning of the file.",
        ),
        Mistake(
            _without_the_eight,
            "you are 8 bytes early: the length itself stands before the header.",
        ),
        Mistake(
            _without_the_header,
            "you added the 8 bytes of the length, but not the header that follows.",
        ),
        Mistake(
            _begin_and_size,
            "the second number should be where the array ends, not how long it is.",
        ),
        Mistake(
            _wrong_end_first,
            "the length came out astronomically large: its 8 bytes are little-endian, "
            "the smallest first.",
        ),
    ),
    hints=(
        "Three things follow one another: 8 bytes, the header, the arrays.",
        'int.from_bytes(file[:8], "little") is how long the header is.',
        'Add 8 and that length to both numbers of entry["data_offsets"].',
    ),
)


# ---- 14.to_bfloat16 -----------------------------------------------------------------


def _bits(x):
    return np.asarray(x, "float32").view("uint32").astype("uint64")


def _to_bfloat16(x):
    bits = _bits(x)
    odd = bits >> 16 & 1
    return (bits + 0x7FFF + odd >> 16).astype("uint16")


def _cut_off(x):
    return (_bits(x) >> 16).astype("uint16")


def _ties_up(x):
    return (_bits(x) + 0x8000 >> 16).astype("uint16")


def _ties_down(x):
    return (_bits(x) + 0x7FFF >> 16).astype("uint16")


def _lower_half(x):
    return (_bits(x) & 0xFFFF).astype("uint16")


def _as_float16(x):
    with np.errstate(over="ignore"):
        return np.asarray(x).astype("float16").view("uint16")


def _widened(x):
    return (_to_bfloat16(x).astype("uint32") << 16).view("float32")


def _floats(*bits):
    return (np.array(bits, "uint32").view("float32"),)


to_bfloat16 = Exercise(
    name="14.to_bfloat16",
    task="The bits of float32 numbers rounded to bfloat16, ties to even.",
    solution=_to_bfloat16,
    cases=(
        Case("1, 0.1 and -6.5", lambda: (np.array([1.0, 0.1, -6.5], "float32"),)),
        Case("a hundred normal numbers", lambda: (_normal(100).astype("float32"),)),
        Case("70,000 and 1e-30", lambda: (np.array([7e4, 1e-30], "float32"),)),
        Case(
            "exactly between two",
            lambda: _floats(0x3F808000, 0x3F818000, 0xBF808000, 0xBF838000),
            "edge",
        ),
        Case(
            "zeros and infinities",
            lambda: (np.array([0.0, -0.0, np.inf, -np.inf], "float32"),),
            "edge",
        ),
    ),
    mistakes=(
        Mistake(
            _cut_off,
            "you cut the lower half off, which rounds towards zero: every number is "
            "made smaller, and so is their sum. Round to the nearest.",
        ),
        Mistake(
            _ties_up,
            "you round ties up, away from zero. A number exactly between two goes to "
            "the one whose last bit is 0.",
        ),
        Mistake(
            _ties_down,
            "you round ties down. A number exactly between two goes to the one whose "
            "last bit is 0.",
        ),
        Mistake(
            _lower_half,
            "you kept the lower half of the bits. Sign and exponent are in the upper.",
        ),
        Mistake(
            _as_float16,
            "those are the bits of float16, which has 5 bits of exponent. bfloat16 has "
            "the 8 of float32.",
        ),
        Mistake(
            _widened,
            "you returned the rounded numbers. Their 16 bits are asked for, as uint16.",
        ),
    ),
    hints=(
        'x.view("uint32") are the bits; the upper 16 are a bfloat16, cut off.',
        "Adding 0x8000 to the bits before the shift rounds to the nearest, ties up. A "
        "carry into the exponent is right: that is how 1.999 becomes 2.",
        "Add 0x7FFF, and one more where bit 16 is 1: then a tie goes up only from an "
        "odd number. Shift by 16.",
    ),
)


# ---- 14.split_qkv -------------------------------------------------------------------


def _split_qkv(weight, bias):
    return tuple(np.split(weight.T, 3)) + tuple(np.split(bias, 3))


def _not_transposed(weight, bias):
    return tuple(np.split(weight, 3, axis=1)) + tuple(np.split(bias, 3))


def _split_then_reshaped(weight, bias):
    width = len(weight)
    parts = weight.reshape(3, width, width)
    return (*parts, *np.split(bias, 3))


def _every_third(weight, bias):
    return (*(weight.T[i::3] for i in range(3)), *(bias[i::3] for i in range(3)))


def _bias_every_third(weight, bias):
    return (*np.split(weight.T, 3), *(bias[i::3] for i in range(3)))


def _keys_first(weight, bias):
    q, k, v, bq, bk, bv = _split_qkv(weight, bias)
    return k, q, v, bk, bq, bv


def _fused(width, seed=0):
    return _normal(width, 3 * width, seed=seed), _normal(3 * width, seed=seed + 1)


split_qkv = Exercise(
    name="14.split_qkv",
    task="GPT-2's one matrix for queries, keys and values as three that Linear takes.",
    solution=_split_qkv,
    cases=(
        Case("1 to 12", lambda: (np.arange(1.0, 13).reshape(2, 6), np.arange(6.0))),
        Case("width 6", lambda: _fused(6)),
        Case("width 4", lambda: _fused(4, seed=2)),
        Case("width 1", lambda: _fused(1, seed=4), "edge"),
    ),
    mistakes=(
        Mistake(
            _not_transposed,
            "your matrices are square, so nothing complains, but they are transposed: "
            "GPT-2 multiplies x @ weight, Linear x @ weight.T.",
        ),
        Mistake(
            _split_then_reshaped,
            "reshape cuts the numbers in the order in which they lie, row by row. The "
            "three parts stand side by side, along the second axis.",
        ),
        Mistake(
            _every_third,
            "you took every third column. Queries are the first third of the columns, "
            "then come the keys, then the values.",
        ),
        Mistake(
            _bias_every_third,
            "the matrices are right, but of the bias you took every third number. It "
            "is cut into three runs, as the columns are.",
        ),
        Mistake(_keys_first, "queries come first, then keys, then values."),
    ),
    hints=(
        "Which axis of the weight has three times the width?",
        "Cut that axis into three; then turn each part for x @ W.T.",
        "np.split(weight.T, 3) does both, and np.split(bias, 3) the rest.",
    ),
)


# ---- 14.sentence_vectors ------------------------------------------------------------


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _sentence_vectors(hidden, mask):
    return _unit((hidden * mask[:, :, None]).sum(1))


def _padding_too(hidden, mask):
    return _unit(hidden.mean(1))


def _not_normalised(hidden, mask):
    return (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)


def _sums(hidden, mask):
    return (hidden * mask[:, :, None]).sum(1)


def _tokens_normalised(hidden, mask):
    return _sentence_vectors(_unit(hidden), mask)


def _first_token(hidden, mask):
    return _unit(hidden[:, 0])


def _largest(hidden, mask):
    return _unit(np.where(mask[:, :, None], hidden, -np.inf).max(1))


def _whole_batch(hidden, mask):
    sums = _sums(hidden, mask)
    return sums / np.linalg.norm(sums)


def _hidden(lengths, width, seed=0):
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return _normal(*mask.shape, width, seed=seed), mask


def _by_hand():
    hidden = np.array([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]], [[1.0, 0.0]] * 3])
    return hidden, np.array([[True, True, False], [True, True, True]])


sentence_vectors = Exercise(
    name="14.sentence_vectors",
    task="The mean of the real tokens' vectors, at length 1: (B, T, C) -> (B, C).",
    solution=_sentence_vectors,
    cases=(
        Case("(3, 0), (0, 4) and padding", _by_hand),
        Case("5, 3 and 2 tokens", lambda: _hidden([5, 3, 2], 4, seed=1)),
        Case("no padding", lambda: _hidden([4, 4], 3, seed=2)),
        Case("one token", lambda: _hidden([1, 4], 3, seed=3), "edge"),
        Case("one text", lambda: _hidden([3], 5, seed=4), "edge"),
    ),
    mistakes=(
        Mistake(
            _padding_too,
            "the mean runs over padding too, so that a text's vector depends on the "
            "others in its batch. Multiply by the mask first.",
        ),
        Mistake(
            _not_normalised,
            "the means are right; divide each by its length.",
        ),
        Mistake(
            _sums,
            "those are the sums. At length 1 a sum and a mean are the same: divide "
            "each by its length.",
        ),
        Mistake(
            _tokens_normalised,
            "you brought each token to length 1 before the mean. A long vector is the "
            "model's way to say that a token matters; only the mean is brought to 1.",
        ),
        Mistake(
            _first_token,
            "that is the vector of the first token. Some encoders are trained for it; "
            "this one is trained for the mean.",
        ),
        Mistake(
            _largest,
            "you took the largest number of each coordinate; the mean is asked for.",
        ),
        Mistake(
            _whole_batch,
            "you divided by the length of all texts together. Each text has its own: "
            "norm over the last axis, with keepdims=True.",
        ),
    ),
    hints=(
        "mask[:, :, None] has the shape to be multiplied with the vectors.",
        "Add up along the tokens; dividing by their number is undone by what follows.",
        "sums / np.linalg.norm(sums, axis=1, keepdims=True)",
    ),
)
