"""Prints expressions as LaTeX, the way a person would typeset them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from kudari.compile.expression import Expr, lift
from kudari.compile.stage import find

# How tightly the outermost operation of a text binds; a loose one in a tight place gets parentheses.
CASES, COMPARE, ADD, MUL, UNARY, POWER, ATOM = range(7)

_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega",
)  # fmt: skip
_NAMES = {name: rf"\{name}" for name in _GREEK} | {"eps": r"\epsilon", "lr": r"\eta", "inf": r"\infty"}
_MARKS = {"hat": r"\hat", "bar": r"\bar", "tilde": r"\tilde"}
_COMPARE = {"lt": "<", "le": r"\le", "gt": ">", "ge": r"\ge"}
_CALLS = {"sin": r"\sin", "cos": r"\cos", "log": r"\ln", "sign": r"\operatorname{sign}"}
_MANY = {"min": r"\min", "max": r"\max", "atan2": r"\operatorname{atan2}"}
_SUMS = {
    "sum": r"\sum",
    "sum_rows": r"\sum_{\text{rows}}",
    "sum_columns": r"\sum_{\text{columns}}",
    "sum_model": r"\sum_{\text{model}}",
}

Piece = tuple[str, int]


def latex(expr: Expr, symbols: Mapping[str, str] | None = None) -> str:
    r"""An expression as LaTeX (math mode, without dollar signs), with no parentheses that are not needed.

    Args:
        expr: a scalar or tensor expression.
        symbols: LaTeX of names; a name that is missing is typeset by :func:`symbol`.

    Returns:
        Text for KaTeX, MathJax or LaTeX with amsmath.

    Example:
        >>> from kudari.compile.expression import hyper
        >>> from kudari.compile.notation import sqrt
        >>> m, v, eps = hyper("m_hat"), hyper("v_hat"), hyper("eps")
        >>> print(latex(hyper("lr") * m / (sqrt(v) + eps)))
        \frac{\eta \hat{m}}{\sqrt{\hat{v}} + \epsilon}
    """
    return _Printer(symbols or {}).piece(expr)[0]


def symbol(name: str) -> str:
    r"""A name as LaTeX: Greek letters, subscripts and accents; longer words upright.

    Example:
        >>> [symbol(n) for n in ("beta1", "m_hat", "m_t", "momentum", "weight_decay")]
        ['\\beta_{1}', '\\hat{m}', 'm_{t}', '\\mathrm{momentum}', '\\mathrm{weight\\_decay}']
    """
    head, _, tail = name.partition("_")
    letters = head.rstrip("0123456789")
    if letters in _NAMES or len(letters) == 1:
        text = _NAMES.get(letters, letters)
        below = head[len(letters) :]
        for part in tail.split("_") if tail else ():
            if part in _MARKS:
                text = f"{_MARKS[part]}{{{text}}}"
            else:
                below += ("," if below else "") + (part if len(part) <= 2 else rf"\mathrm{{{part}}}")
        return f"{text}_{{{below}}}" if below else text
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def number(value: float) -> str:
    r"""A number as LaTeX, in as few digits as give it back.

    Example:
        >>> [number(x) for x in (2.0, 0.999, 1e-8, 3e-5, -0.5)]
        ['2', '0.999', '10^{-8}', '3 \\cdot 10^{-5}', '-0.5']
    """
    if math.isnan(value):
        return r"\mathrm{NaN}"
    if math.isinf(value):
        return r"\infty" if value > 0 else r"-\infty"
    if abs(value) == math.pi:
        return r"\pi" if value > 0 else r"-\pi"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    text = _short(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    power = f"10^{{{int(exponent)}}}"
    return {"1": power, "-1": f"-{power}"}.get(mantissa, rf"{mantissa} \cdot {power}")


def _short(value: float) -> str:
    # 1 - 0.1 prints as 0.9: fifteen digits are what a double carries whatever its history.
    text = f"{value:.15g}"
    return text if 1e-3 <= abs(value) < 1e6 else _scientific(value)


def _scientific(value: float) -> str:
    mantissa, _, exponent = f"{value:.14e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


class _Printer:
    def __init__(self, symbols: Mapping[str, str]) -> None:
        self._symbols = symbols
        self._done: dict[Expr, Piece] = {}

    def piece(self, expr: Expr) -> Piece:
        """Text and how tightly it binds; shared nodes are typeset once."""
        found = self._done.get(expr)
        if found is None:
            found = self._done[expr] = self._print(expr)
        return found

    def at(self, expr: Expr, level: int) -> str:
        """Text for a place that needs at least this tightness."""
        text, own = self.piece(expr)
        return text if own >= level else _wrap(text)

    def _print(self, expr: Expr) -> Piece:
        if expr.op in ("slot", "hyper"):
            return self._symbols.get(expr.name) or symbol(expr.name), ATOM
        if expr.op == "const":
            text = number(expr.value)
            if text.startswith("-"):
                return text, UNARY
            return text, MUL if r"\cdot" in text else POWER if "^" in text else ATOM
        if expr.op in _COMPARE:
            left, right = (self.at(a, ADD) for a in expr.args)
            return f"{left} {_COMPARE[expr.op]} {right}", COMPARE
        if expr.op in _CALLS:
            return f"{_CALLS[expr.op]}{_wrap(self.at(expr.args[0], CASES))}", POWER
        if expr.op in _MANY:
            inside = ", ".join(self.at(a, CASES) for a in _flat(expr, expr.op))
            return f"{_MANY[expr.op]}{_wrap(inside)}", POWER
        if expr.op in _SUMS:
            return self._sum(expr)
        method: Callable[[Expr], Piece] = getattr(self, f"_{expr.op}")
        return method(expr)

    def _add(self, expr: Expr) -> Piece:
        left, right = expr.args
        negated = _negated(right)
        if negated is not None:
            return f"{self.at(left, ADD)} - {self.at(negated, MUL)}", ADD
        return f"{self.at(left, ADD)} + {self.at(right, ADD)}", ADD

    def _sub(self, expr: Expr) -> Piece:
        left, right = expr.args
        return f"{self.at(left, ADD)} - {self._after_operator(right)}", ADD

    def _after_operator(self, expr: Expr) -> str:
        """Two signs in a row would be read as one."""
        return self.at(expr, POWER if self.piece(expr)[0].startswith("-") else MUL)

    def _fma(self, expr: Expr) -> Piece:
        a, b, c = expr.args
        return f"{self._times(a, b)} + {self.at(c, ADD)}", ADD

    def _neg(self, expr: Expr) -> Piece:
        return f"-{self.at(expr.args[0], MUL)}", UNARY

    def _mul(self, expr: Expr) -> Piece:
        a, b = expr.args
        if a is b:
            return self._power(a, "2")
        negated = _negated(expr)
        if negated is not None:
            return f"-{self.at(negated, MUL)}", UNARY
        return self._times(a, b), MUL

    def _times(self, a: Expr, b: Expr) -> str:
        left, right = self.at(a, MUL), self._after_operator(b)
        # Digits after a factor, and a number after a number, would be read as one.
        dot = (
            right[:1].isdigit() or right.startswith(r"10^") or (_is_number(a) and right.startswith(r"\frac"))
        )
        return f"{left} \\cdot {right}" if dot else f"{left} {right}"

    def _div(self, expr: Expr) -> Piece:
        top, bottom = (self.at(a, CASES) for a in expr.args)
        return rf"\frac{{{top}}}{{{bottom}}}", MUL

    def _pow(self, expr: Expr) -> Piece:
        return self._power(expr.args[0], self.at(expr.args[1], CASES))

    def _power(self, base: Expr, exponent: str) -> Piece:
        fraction = base.op == "div"
        text = _wrap(self.piece(base)[0]) if fraction else self.at(base, ATOM)
        return f"{text}^{{{exponent}}}", POWER

    def _sqrt(self, expr: Expr) -> Piece:
        inside = expr.args[0]
        norm = self._norm(inside)
        return (norm, ATOM) if norm else (rf"\sqrt{{{self.at(inside, CASES)}}}", ATOM)

    def _norm(self, inside: Expr) -> str:
        """The Euclidean norm, if this is the square of one."""
        if inside.op in ("sum", "sum_model") and _square(inside.args[0]) is not None:
            base = _square(inside.args[0])
            assert base is not None
            below = r"_{\text{model}}" if inside.op == "sum_model" else ""
            return rf"\left\lVert {self.at(base, CASES)} \right\rVert{below}"
        return ""

    def _sum(self, expr: Expr) -> Piece:
        norm = self._norm(expr)
        if norm:
            return f"{norm}^{{2}}", POWER
        # A factor behind the sum would be read as inside it.
        return f"{_SUMS[expr.op]} {self.at(expr.args[0], MUL)}", ADD

    def _abs(self, expr: Expr) -> Piece:
        return rf"\left| {self.at(expr.args[0], CASES)} \right|", ATOM

    def _exp(self, expr: Expr) -> Piece:
        return f"e^{{{self.at(expr.args[0], CASES)}}}", POWER

    def _floor(self, expr: Expr) -> Piece:
        return rf"\left\lfloor {self.at(expr.args[0], CASES)} \right\rfloor", ATOM

    def _stage(self, expr: Expr) -> Piece:
        """A call of a stage in its own notation; with a condition, what it is where that does not hold."""
        stage, _ = find(expr.name)
        *args, when = expr.args
        texts = dict(zip((*stage.values, *stage.numbers), [self.at(a, POWER) for a in args], strict=True))
        if stage.latex and not expr.value:
            call = stage.latex.format(**texts)
        else:
            inside = ", ".join(texts[name] for name in stage.values)
            call = rf"{_upright(stage.name)}({inside})" + (
                rf"_{{{int(expr.value) + 1}}}" if expr.value else ""
            )
        if when.op == "const":
            return call, MUL
        given = self.at(expr.args[int(expr.value)], COMPARE)
        condition = self.at(when, CASES)
        rows = rf"{call} & \text{{if }} {condition} \\ {given} & \text{{otherwise}}"
        return rf"\begin{{cases}} {rows} \end{{cases}}", CASES

    def _where(self, expr: Expr) -> Piece:
        rows = []
        rest = expr
        while rest.op == "where":
            condition, then, rest = rest.args
            rows.append(rf"{self.at(then, COMPARE)} & \text{{if }} {self.at(condition, CASES)}")
        rows.append(rf"{self.at(rest, COMPARE)} & \text{{otherwise}}")
        return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}", CASES


def _upright(name: str) -> str:
    escaped = name.replace("_", r"\_")
    return rf"\operatorname{{{escaped}}}"


def _wrap(text: str) -> str:
    return (
        rf"\left( {text} \right)"
        if "\\frac" in text or "\\left" in text or "\\begin" in text
        else f"({text})"
    )


def _flat(expr: Expr, op: str) -> list[Expr]:
    if op == "atan2":
        return list(expr.args)
    return [leaf for arg in expr.args for leaf in (_flat(arg, op) if arg.op == op else [arg])]


def _square(expr: Expr) -> Expr | None:
    return expr.args[0] if expr.op == "mul" and expr.args[0] is expr.args[1] else None


def _negated(expr: Expr) -> Expr | None:
    """The expression with its sign changed, if it is one that is written with a minus."""
    if expr.op == "neg":
        return expr.args[0]
    if expr.op == "const" and expr.value < 0:
        return lift(-expr.value)
    if expr.op in ("mul", "div") and expr.args[0].op == "const" and expr.args[0].value < 0:
        first = -expr.args[0].value
        if expr.op == "mul":
            return lift(first) * expr.args[1]
        return lift(first) / expr.args[1]
    return None


def _is_number(expr: Expr) -> bool:
    return expr.op == "const"
