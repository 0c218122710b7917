"""A traced rule as a formula: LaTeX for pages, ASCII for terminals, one line for each step it names."""

from __future__ import annotations

from kudari.compile.expression import Expr, hyper, slot, substitute
from kudari.compile.notation import Rule
from kudari.compile.trace import Trace, parts

_GREEK = {
    "lr": r"\eta", "eps": r"\epsilon", "weight_decay": r"\lambda", "momentum": r"\mu", "dampening": r"\tau",
    "betas[0]": r"\beta_1", "betas[1]": r"\beta_2", "betas[2]": r"\beta_3", "rho": r"\rho",
    "alpha": r"\alpha", "gamma": r"\gamma", "t": "t",
}  # fmt: skip


def _letter(name: str) -> str:
    """The symbol of a slot: the parameter is theta, everything else its own letter."""
    return r"\theta" if name == "p" else name


def symbol(name: str, slots: tuple[str, ...]) -> str:
    """LaTeX of a name as rules use them: ``m_t`` is new, ``m_hat`` is corrected, ``m`` is the last step's."""
    stem, _, suffix = name.partition("_")
    if suffix == "t":
        return f"{_letter(stem)}_t"
    if suffix == "hat":
        return rf"\hat{{{_letter(stem)}}}_t"
    if name in slots:
        return "g_t" if name == "g" else f"{_letter(name)}_{{t-1}}"
    return f"{stem}_{{{suffix}}}" if suffix else f"{stem}_t"


def _steps(traced: Trace) -> list[tuple[str, Expr]]:
    """Named steps in order, each in terms of the names before it, then outputs that have no name."""
    named: dict[Expr, Expr] = {}
    lines: list[tuple[str, Expr]] = []

    def add(name: str, expr: Expr) -> None:
        if expr in named:
            return
        (text,) = substitute([expr], named)
        lines.append((name, text))
        # A name given again to an argument is another quantity: it gets a mark of its own.
        label = f"{name}'" if name in traced.slots else name
        named[expr] = hyper(label) if expr.kind == "scalar" else slot(label, expr.kind)

    for name, expr in traced.names:
        add(name, expr)
    numbers = [(state.name, expr) for state, expr in traced.cells] + list(traced.running)
    lists = [(state.name, expr) for state, expr in traced.factors]
    for name, expr in (*numbers, *traced.outputs, *lists):
        add(f"{name}_t", expr)
    return lines


def formula_latex(rule: Rule, traced: Trace) -> str:
    """The formula as an ``aligned`` block, without dollar signs."""
    from kudari.compile.latex import latex

    symbols = dict(_GREEK)
    symbols |= {n: h.symbol for h in rule.hypers if h.symbol for n in parts(h)}
    symbols |= {name: symbol(name, traced.slots) for name in traced.slots}
    lines = []
    for name, expr in _steps(traced):
        again = name in traced.slots
        left = rf"\tilde{{{_letter(name)}}}_t" if again else symbol(name, traced.slots)
        lines.append(f"{left} &= {latex(expr, symbols)}")
        symbols[f"{name}'" if again else name] = left
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def formula_text(traced: Trace) -> tuple[str, ...]:
    """The formula in ASCII, one assignment a line.

    Example:
        >>> from kudari.compile.trace import trace
        >>> from kudari.rules.lion import lion
        >>> print("\\n".join(formula_text(trace(lion, {"cautious": False}))))
        u = sign(b1*m + (1 - b1)*g)
        m_t = b2*m + (1 - b2)*g
        p_t = (1 - lr*weight_decay)*p - lr*u
    """
    short = {f"betas[{i}]": f"b{i + 1}" for i in range(3)}
    lines = [f"{name}{chr(39) * (name in traced.slots)} = {expr}" for name, expr in _steps(traced)]
    for long, brief in short.items():
        lines = [line.replace(long, brief) for line in lines]
    return tuple(lines)
