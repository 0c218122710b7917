"""The table that a kernel is called with."""

from __future__ import annotations

# Fields of the context, in units of 8 bytes; pointers and counts. `next` has a cache line of its own.
CONTEXT = {
    "tensors": 0,  # number of tensors
    "tasks": 1,  # number of tasks
    "chunks": 2,  # i64[chunk_count][3]: tensor, first element, end
    "task_ends": 3,  # i64[tasks]: end of each task's run of chunks
    "slots": 4,  # i64[tensors][slots]: addresses
    "scalars": 5,  # compute[tensors][scalars_per_tensor]
    "hypers": 6,  # double[hypers], t left out
    "counters": 7,  # i64[tensors]: address of each tensor's float32 step count
    "fork": 8,  # address of GOMP_parallel, or of something with its signature
    "chunk_count": 9,
    "partials": 10,  # double[chunk_count][sums]: what each chunk has summed
    "sums": 11,  # double[tensors][sums]
    "sizes": 12,  # double[tensors]: number of elements
    "first_pass": 13,
    "end_pass": 14,  # passes first_pass <= k < end_pass are run
    "cells": 15,  # i64[tensors][cells]: address of each number kept for a tensor, a float64
    "next": 16,  # the next task to take
    "dims": 24,  # i64[tensors][3]: matrices, rows and columns; this and the rest where passes go by rows
    "column_at": 25,  # i64[chunk_count]: where a chunk's column sums go, from the tensor's first one
    "folds": 26,  # i64[fold_count][5]: see :func:`kudari.compile.llvm.rows.print_fold`
    "fold_count": 27,
    "chunk": 28,  # address of the function for the chunks of the pass that is run; set by the kernel
}
CONTEXT_WORDS = 32


def load_count(name: str) -> str:
    """Load a count from the context."""
    return (
        f"  %{name}.p = getelementptr i64, ptr %context, i64 {CONTEXT[name]}\n"
        f"  %{name} = load i64, ptr %{name}.p, align 8"
    )


def load_address(name: str) -> str:
    """Load an address from the context."""
    return load_count(name).replace(f"load i64, ptr %{name}.p", f"load ptr, ptr %{name}.p")
