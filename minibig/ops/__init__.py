"""The operations: functions from arrays to `(array, backward)`.

Arrays (NumPy or CuPy) are positional, settings keyword-only. `backward` takes the
gradient of the loss by the output and returns one gradient per array, None where there
is none. What backward needs is captured, never changed: it may be called twice. A
gradient is a fresh array, `dy` itself or a view of it, never a captured array. Ops with
several outputs return a tuple of arrays, and `backward` takes as many gradients.

Ops know nothing of Tensors: `minibig.tensor.apply` runs them and records the graph.
"""
