"""The Triton printer: a program as the source text of GPU kernels."""

from kudari.compile.triton.printer import PASS_ARGUMENTS, print_triton

__all__ = ["PASS_ARGUMENTS", "print_triton"]
