"""bfloat16, the first half of a float32: the same range, three decimal digits.

NumPy has no such numbers, and CuPy 14 only parts of them (no `where`, no product of
more than two axes): what it does well are copies, casts, products of two matrices, and
single sums, differences and products of numbers. All other ops compute in float32, from
bfloat16 and into it: what they do in several steps is rounded once.
"""

# By name. An op that can do it sometimes has a function `in_bfloat16`, which takes the
# same arguments and answers (results, backward), or None.
AS_IT_IS = {
    "linear", "embedding", "reshape", "permute", "broadcast_to", "concatenate", "stack",
    "split", "unbind", "flip", "cast", "_move", "_joined",
}  # fmt: skip
# The same of arrays of bfloat16 alone: a number, such as 0.1, would be rounded first.
ONE_STEP = {"add", "subtract", "multiply", "negative"}
INTO_FLOAT32 = {"cross_entropy"}  # sums of many small numbers follow


def computed(op, arrays, settings):
    """(results, backward) of op(*arrays, **settings), computed in float32 if need be.

    Its gradients are of the dtypes of the arrays.
    """
    alike = op.__name__ in ONE_STEP and all(map(_is_bfloat16, arrays))
    if alike or op.__name__ in AS_IT_IS or not any(map(_is_bfloat16, arrays)):
        return op(*arrays, **settings)
    served = hasattr(op, "in_bfloat16") and op.in_bfloat16(*arrays, **settings)
    if served:
        return served
    dtypes = [getattr(x, "dtype", None) for x in arrays]
    narrow = next(x.dtype for x in arrays if _is_bfloat16(x))
    results, wide_backward = op(*map(_widened, arrays), **settings)
    if op.__name__ not in INTO_FLOAT32:
        several = type(results) is tuple
        results = tuple(
            _narrowed(y, narrow) for y in (results if several else [results])
        )
        results = results if several else results[0]

    def backward(*dys):
        gradients = wide_backward(*map(_widened, dys))
        return tuple(
            None if dx is None else dx.astype(dtype, copy=False)
            for dx, dtype in zip(gradients, dtypes, strict=False)
        )

    return results, backward


def _is_bfloat16(x):
    return getattr(getattr(x, "dtype", None), "name", "") == "bfloat16"


def _widened(x):
    return x.astype("float32") if _is_bfloat16(x) else x


def _narrowed(y, dtype):
    return y.astype(dtype) if y.dtype == "float32" else y
