"""Rungs 1 and 2, naive and tiled: attention with its array of weights (B, H, T, S).

Both take the same steps with the same arguments, three forward and two more backward.
They differ in how a step is spread over the threads, and so in the grid.
"""

from .arrays import ceil, contiguous
from .kernel import load


class Unfused:
    """A rung by name, "naive" or "tiled": float32, heads of any width.

    `forward` and `backward` take a Problem, which has checked the arrays.
    """

    readable = staticmethod(contiguous)

    def __init__(self, name):
        self.name = name
        self.files = tuple(f"attention_{name}_{p}.cu" for p in ("forward", "backward"))

    def refusal(self, problem, chip):
        """Why this rung cannot do `problem` on `chip`; None if it can."""
        if problem.dtype != "float32":
            return f"reads float32, not {problem.dtype}"
        return None

    def forward(self, p, q, k, v, mask):
        """(out, what backward needs): the weights."""
        weights = p.empty((*q.shape[:3], p.keys))
        out = p.empty(q.shape)
        self.scores(p, q, k, mask, weights, p.offset, p.scale)
        self.softmax(p, weights)
        self.weighted_sum(p, weights, v, out)
        return out, weights

    def backward(self, p, q, k, v, mask, out, weights, dout):
        """(dq, dk, dv)."""
        dscores = p.empty(weights.shape)
        dq, dk, dv = (p.empty(x.shape) for x in (q, k, v))
        self.scores(p, dout, v, None, dscores, p.keys, 1.0)  # dP = dO Vᵀ, all of it
        self.softmax_backward(p, weights, dscores)
        self.weighted_sum(p, dscores, k, dq)
        self.transposed_sum(p, dscores, q, dk)
        self.transposed_sum(p, weights, dout, dv)
        return dq, dk, dv

    # ---- one launcher a kernel -------------------------------------------------------

    def scores(self, p, q, k, mask, weights, offset, scale):
        """weights = q kᵀ scale, -inf where masked."""
        grid = self._over_matrices(p, p.queries, p.keys, p.heads)
        self._launch(0, "scores", grid, q, k, mask, weights, *p.sizes, offset, scale)

    def softmax(self, p, weights):
        """Each row of the weights, in place."""
        self._launch(0, "softmax", self._over_rows(p), weights, p.keys, p.rows)

    def weighted_sum(self, p, weights, v, out):
        """out = weights v."""
        grid = self._over_matrices(p, p.queries, p.width, p.heads)
        self._launch(0, "weighted_sum", grid, weights, v, out, *p.sizes)

    def softmax_backward(self, p, weights, dweights):
        """dscores = weights (dweights - Σ weights dweights) scale, in place."""
        grid, arrays = self._over_rows(p), (weights, dweights)
        self._launch(1, "softmax_backward", grid, *arrays, p.keys, p.scale, p.rows)

    def transposed_sum(self, p, weights, x, dx):
        """dx = weightsᵀ x, summed over the heads that share a head of keys."""
        grid = self._over_matrices(p, p.keys, p.width, p.kv_heads)
        self._launch(1, "transposed_sum", grid, weights, x, dx, *p.sizes)

    # ---- grids -----------------------------------------------------------------------

    def _over_matrices(self, p, rows, columns, heads):
        """Grid and block for B · heads matrices: a thread a number, or tiles of 64²."""
        if self.name == "naive":
            return (ceil(rows * columns, 256), heads, p.batch), (256,)
        return (ceil(rows, 64) * ceil(columns, 64), heads, p.batch), (128,)

    def _over_rows(self, p):
        """Grid and block for the rows of all matrices: a thread a row, or a warp."""
        if self.name == "naive":
            return (ceil(p.rows, 256),), (256,)
        return (ceil(p.rows, 4),), (128,)

    def _launch(self, file, step, grid, *arguments):
        kernel = load(self.files[file])[f"attention_{self.name}_{step}"]
        kernel(*grid, *arguments)
