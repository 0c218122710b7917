"""The Triton printer: a program as the source text of GPU kernels."""

from kudari.compile.triton.printer import print_triton

__all__ = ["print_triton"]
