"""The LLVM printer."""

from kudari.compile.llvm.kernel import CONTEXT, CONTEXT_WORDS, print_llvm

__all__ = ["CONTEXT", "CONTEXT_WORDS", "print_llvm"]
