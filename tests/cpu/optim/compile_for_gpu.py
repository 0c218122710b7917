"""Compiles printed kernels for a GPU that need not be there; run in a process of its own, not interpreted.

Each argument is a case: a class, the dtype of parameters and gradients, a state_dtype and a rounding, joined
by colons; the class may be followed by values in brackets, as in ``Prodigy[slice_p=11]``. Kernels become
Triton's intermediate code, which checks their types; of a case that ends in ``:machine`` they become machine
code, and a line is printed for each pass: case, slots read and written, 16-byte loads and stores, operations
that flush denormals and approximate ones. A case that is refused prints ``case refused``.
"""

import sys

import torch
import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

import kudari.optim
from kudari.compile.codecs import codec_of
from kudari.compile.cut import cut
from kudari.compile.gpu import BLOCK, WARPS, compile_gpu
from kudari.compile.lower import lower
from kudari.compile.rounding import KAHAN, with_drawn_states, with_rounding
from kudari.compile.trace import Trace, trace
from kudari.compile.triton import elements, functions, rows
from kudari.compile.triton.printer import NUMBERS_ARGUMENTS
from kudari.compile.triton.tiles import FOLD_DEPTH, FOLD_LINES, tile_of
from kudari.errors import CompileError

TARGET = GPUTarget("cuda", 90, 32)


def programs(name, dtype, kept, rounding):
    """The program of a class with its defaults for a matrix; of a rule with stages, that of each part."""
    name, _, values = name.removesuffix("]").partition("[")
    values = dict(pair.split("=") for pair in values.split(",") if pair)
    values = {key: int(value) for key, value in values.items()}
    optimizer = kudari.optim.get(name)([torch.nn.Parameter(torch.ones(2, 2))], **values)
    group, rule = optimizer.param_groups[0], optimizer.rule
    whole = with_rounding(trace(rule, {**group, **rule.kinds_of((2, 2), group)}), rounding, dtype)
    for part in cut(whole):
        if isinstance(part, Trace):
            stored = {state.name: how_kept(state, dtype, kept) for state in part.states}
            stored |= {"p": dtype, "g": dtype}
            drawn = {n for n in part.slots[2:] if stored[n] == "bf16"} - {KAHAN.name}
            yield lower(with_drawn_states(part, drawn), {n: stored[n] for n in part.slots})


def how_kept(state, dtype, kept):
    if state.name == KAHAN.name:
        return dtype
    small = state.shape != "elements" or state.full_precision
    codec = None if small else codec_of(kept, state.non_negative)
    if codec is not None:
        return codec.name
    return "bf16" if kept == "bf16" and not small else "f64" if dtype == "f64" else "f32"


def source_of(kernel, arguments, program, **constants):
    wide = "*fp64" if program.compute == "f64" else "*fp32"
    types = {"scalars": wide, "hypers": "*fp64", "sums": "*fp64", "partials": "*fp64", "skip": "*fp32"}
    signature = {name: types.get(name, "*i64") for name in arguments} | dict.fromkeys(constants, "constexpr")
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(arguments))}
    return ASTSource(kernel, signature, constexprs=constants, attrs=aligned)


def check(source, warps):
    """Only as far as Triton checks types."""
    backend = make_backend(TARGET)
    options = backend.parse_options({"num_warps": warps, "enable_fp_fusion": False})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    made = backend.get_codegen_implementation(options), backend.get_module_map()
    assert source.make_ir(TARGET, options, *made, context).verify()


def compiled(source, warps):
    options = {"num_warps": warps, "enable_fp_fusion": False}
    return triton.compile(source, target=TARGET, options=options).asm["ptx"]


# (matrices, rows, columns): a large matrix, many small ones, and matrices of one column.
SHAPES = [(1, 4096, 1024), (512, 3, 3), (1, 300, 1)]


def make_pass(make, program, module, number):
    """What a pass launches; the code of its elements, or of the tiles of a large matrix."""
    kernel = getattr(module, f"pass{number}")
    if not program.by_rows:
        constants = {"BLOCK": BLOCK, "ALIGNED": True}
        return make(source_of(kernel, elements.ARGUMENTS, program, **constants), WARPS)
    texts = []
    for tile in (tile_of(shape, BLOCK) for shape in SHAPES):
        sides = {"MATRICES": tile.matrices, "ROWS": tile.rows, "COLUMNS": tile.columns}
        texts.append(make(source_of(kernel, rows.TILES_ARGUMENTS, program, **sides, ALIGNED=True), WARPS))
        sides = {"TOGETHER": tile.together, "HIGH": tile.high, "WIDE": tile.wide}
        for stage in range(len(rows.stages(program.passes[number]))):
            vectors = getattr(module, f"vectors{number}_{stage}")
            make(source_of(vectors, rows.VECTORS_ARGUMENTS, program, **sides), WARPS)
    return texts[0]


def make_fold(make, program):
    if program.by_rows:
        kind = triton.language.float64 if program.compute == "f64" else triton.language.float32
        constants = {"SLOTS": len(program.slots), "TYPE": kind, "LINES": FOLD_LINES, "DEPTH": FOLD_DEPTH}
        make(source_of(functions.fold, ("folds", "slots", "skip"), program, **constants), 4)


def main(case):
    name, dtype, kept, rounding, *machine = case.split(":")
    make = compiled if machine else check
    for program in programs(name, dtype, kept, rounding):
        try:
            module = compile_gpu(program).module
        except CompileError:
            print(case, "refused")
            continue
        make_fold(make, program)
        for number, part in enumerate(program.passes):
            make(source_of(getattr(module, f"numbers{number}"), NUMBERS_ARGUMENTS, program), 1)
            text = make_pass(make, program, module, number)
            if machine:
                wide = [text.count(f"{op}.global.v4") for op in ("ld", "st")]
                print(
                    case, len(part.reads), len(part.writes), *wide, text.count(".ftz"), text.count("approx")
                )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(argument)
