"""The LLVM printer."""

from kudari.compile.llvm.context import CONTEXT, CONTEXT_WORDS
from kudari.compile.llvm.kernel import ENTRY, print_llvm

__all__ = ["CONTEXT", "CONTEXT_WORDS", "ENTRY", "print_llvm"]
