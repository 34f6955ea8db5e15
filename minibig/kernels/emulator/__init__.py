"""Runs CUDA kernels on the CPU: the same .cu text, built by the system's C++ compiler.

For learners without a GPU, and for tests: out-of-bounds addresses, barriers that not
all threads reach, races (threads run in shuffled order) and shared memory that is read
before it is written (it holds NaN) come to light. It is slow, a billion operations a
second at most.
"""

from .builder import build, compiler, missing
from .launch import EmulatorError, Library, shuffled
