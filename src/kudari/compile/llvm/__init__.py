"""The LLVM printer."""

from kudari.compile.llvm.context import CONTEXT, CONTEXT_WORDS
from kudari.compile.llvm.kernel import print_llvm

__all__ = ["CONTEXT", "CONTEXT_WORDS", "print_llvm"]
