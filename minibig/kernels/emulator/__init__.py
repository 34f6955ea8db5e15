"""Runs CUDA kernels on the CPU: the same .cu text, built by the system's C++ compiler.

For learners without a GPU, and for tests: out-of-bounds addresses, barriers that not
all threads reach, and races (threads run in shuffled order) come to light. It is slow,
a billion operations a second at most.
"""

from .builder import build, compiler, missing
from .launch import EmulatorError, Library, shuffled
