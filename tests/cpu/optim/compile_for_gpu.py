"""Compiles printed kernels for a GPU that need not be there; run in a process of its own, not interpreted.

Each argument is a case: a class, the dtype of parameters and gradients, a state_dtype and a rounding, joined
by colons. Kernels become Triton's intermediate code, which checks their types; of a case that ends in
``:machine`` they become machine code, and a line is printed for each pass: case, slots read and written,
16-byte loads and stores, operations that flush denormals and approximate ones. A case that is refused prints
``case refused``.
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
from kudari.compile.triton.printer import NUMBERS_ARGUMENTS, PASS_ARGUMENTS
from kudari.errors import CompileError

TARGET = GPUTarget("cuda", 90, 32)


def programs(name, dtype, kept, rounding):
    """The program of a class with its defaults for a matrix; of a rule with stages, that of each part."""
    optimizer = kudari.optim.get(name)([torch.nn.Parameter(torch.ones(2, 2))])
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


def main(case):
    name, dtype, kept, rounding, *machine = case.split(":")
    make = compiled if machine else check
    for program in programs(name, dtype, kept, rounding):
        try:
            module = compile_gpu(program).module
        except CompileError:
            print(case, "refused")
            continue
        for number, part in enumerate(program.passes):
            make(source_of(getattr(module, f"numbers{number}"), NUMBERS_ARGUMENTS, program), 1)
            constants = {"BLOCK": BLOCK, "ALIGNED": True}
            text = make(
                source_of(getattr(module, f"pass{number}"), PASS_ARGUMENTS, program, **constants), WARPS
            )
            if machine:
                wide = [text.count(f"{op}.global.v4") for op in ("ld", "st")]
                print(
                    case, len(part.reads), len(part.writes), *wide, text.count(".ftz"), text.count("approx")
                )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(argument)
