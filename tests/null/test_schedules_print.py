"""Expressions as LaTeX and as JavaScript."""

import json
import math
import random
import shutil
import subprocess

import pytest

from kudari.compile.expression import evaluate, hyper, node, slot
from kudari.compile.javascript import javascript, javascript_function
from kudari.compile.latex import latex, number, symbol
from kudari.compile.notation import (
    atan2,
    clip,
    cos,
    ema,
    exp,
    floor,
    log,
    maximum,
    minimum,
    sign,
    sin,
    sqrt,
    where,
)
from kudari.errors import UnsupportedError
from kudari.schedules import names, parse

g, m, t, b1, lr = slot("g"), slot("m"), hyper("t"), hyper("beta1"), hyper("lr")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (ema(m, g, b1), r"\beta_{1} m + (1 - \beta_{1}) g"),
        (lr * hyper("m_hat") / (sqrt(hyper("v_hat")) + hyper("eps")),
         r"\frac{\eta \hat{m}}{\sqrt{\hat{v}} + \epsilon}"),
        (g - (m - 1), "g - (m - 1)"),
        (g - m - 1, "g - m - 1"),
        (g - (m + 1), "g - (m + 1)"),
        (g - (-m), "g - (-m)"),
        (g + (-m), "g - m"),
        (g + -3, "g - 3"),
        (g - 0.5 * m, "g - 0.5 m"),
        (-(g * m), "-g m"),
        (-(g + m), "-(g + m)"),
        (m * (-g), "m (-g)"),
        ((g + 1) ** 2, "(g + 1)^{2}"),
        ((g / m) ** 3, r"\left( \frac{g}{m} \right)^{3}"),
        (1 / (1 - b1**t), r"\frac{1}{1 - \beta_{1}^{t}}"),
        (g * 2, r"g \cdot 2"),
        (2 * g, "2 g"),
        (node("mul", 2, 3), r"2 \cdot 3"),
        (1e-8 + g, "10^{-8} + g"),
        (math.pi * t, r"\pi t"),
        (sqrt(node("sum", g * g)), r"\left\lVert g \right\rVert"),
        (node("sum", g * g), r"\left\lVert g \right\rVert^{2}"),
        (node("sum", g) * m, r"(\sum g) m"),
        (node("sum", g + m), r"\sum (g + m)"),
        (minimum(minimum(g, m), 2), r"\min(g, m, 2)"),
        (exp(-g), "e^{-g}"),
        (abs(g - m), r"\left| g - m \right|"),
        (floor(g / 2), r"\left\lfloor \frac{g}{2} \right\rfloor"),
        (sign(g), r"\operatorname{sign}(g)"),
        (log(g), r"\ln(g)"),
        (where(g < m, 1, where(g >= 3, m, -g)),
         r"\begin{cases} 1 & \text{if } g < m \\ m & \text{if } g \ge 3 \\ "
         r"-g & \text{otherwise} \end{cases}"),
    ],
)  # fmt: skip
def test_latex_has_the_parentheses_it_needs_and_no_more(expr, text):
    assert latex(expr) == text


def test_symbols_given_by_the_caller_win():
    assert latex(b1 * g, {"beta1": r"\rho", "g": r"\nabla f"}) == r"\rho \nabla f"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("g", "g"), ("b1", "b_{1}"), ("beta2", r"\beta_{2}"), ("m_hat", r"\hat{m}"), ("v_t", "v_{t}"),
        ("v_max", r"v_{\mathrm{max}}"), ("momentum", r"\mathrm{momentum}"),
        ("weight_decay", r"\mathrm{weight\_decay}"),
    ],
)  # fmt: skip
def test_names_are_typeset_as_mathematics(name, text):
    assert symbol(name) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2"), (0.1 + 0.2, "0.3"), (-0.5, "-0.5"), (1e-4, "10^{-4}"), (3e-5, r"3 \cdot 10^{-5}"),
     (1e9, r"10^{9}"), (math.inf, r"\infty"), (math.nan, r"\mathrm{NaN}"), (math.pi, r"\pi")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize("text", names())
def test_every_schedule_prints_and_braces_balance(text):
    expression = parse(text).bind(2000).expression
    printed = latex(expression)
    assert printed.count("{") == printed.count("}")
    assert printed.count(r"\left") == printed.count(r"\right")
    assert javascript(expression)


def test_javascript_keeps_the_order_of_operations():
    assert javascript(g - (m - 1)) == "g - (m - 1)"
    assert javascript(g / (m / 2)) == "g / (m / 2)"
    assert javascript(where(g < m, 1, where(g > 3, m, -g)) * 2) == "(g < m ? 1 : g > 3 ? m : -g) * 2"
    assert javascript((-g) ** 3) == "Math.pow(-g, 3)"
    assert javascript(hyper("lambda") + hyper("var"), {"lambda": "wd"}) == "wd + var_"


def test_javascript_refuses_sums_over_elements():
    with pytest.raises(UnsupportedError, match="sums over elements"):
        javascript(node("sum", g))


def test_a_function_computes_shared_parts_once():
    shared = exp(g)
    text = javascript_function("f", ["g", "c0"], {"a": shared + 1, "b": shared * 2})
    assert text.count("Math.exp") == 1
    assert "const c1 = Math.exp(g);" in text


def random_expression(rng, depth):
    g, m = hyper("g"), hyper("m")
    if depth == 0:
        return rng.choice([g, m, t, node("abs", g), rng.choice([0.5, -2.0, 3.0, 1e-8, -1e-5])])
    a, b, c = (random_expression(rng, depth - 1) for _ in range(3))
    a = node("neg", node("neg", a)) if isinstance(a, float) else a
    a = a + 0 if isinstance(a, float) else a
    return rng.choice(
        [
            lambda: node("add", a, b), lambda: node("sub", a, b), lambda: node("mul", a, b),
            lambda: node("div", a, b), lambda: node("neg", a), lambda: sqrt(abs(node("neg", a))),
            lambda: where(node("lt", a, b), c, a), lambda: node("le", a, b), lambda: sin(a), lambda: cos(a),
            lambda: minimum(a, b), lambda: maximum(a, b), lambda: clip(a, -1, 1), lambda: floor(a),
            lambda: sign(a), lambda: atan2(a, b), lambda: node("fma", a, b, c), lambda: where(a, b, c),
            lambda: node("pow", abs(node("neg", a)), rng.choice([2.0, 0.5, 3.0])),
        ]
    )()  # fmt: skip


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run JavaScript")
def test_javascript_computes_what_the_expression_means():
    rng = random.Random(0)
    lines, want = [], []
    expressions = [random_expression(rng, depth) for depth in (1, 2, 3, 4) for _ in range(60)]
    for index, expr in enumerate(expressions):
        values = {"g": rng.uniform(-3, 3), "m": rng.uniform(-3, 3), "t": float(rng.randrange(5))}
        want.append(evaluate(node("add", expr, 0.0), values))
        arguments = ", ".join(repr(values[name]) for name in ("g", "m", "t"))
        body = javascript_function(f"f{index}", ["g", "m", "t"], {"y": node("add", expr, 0.0)})
        lines.append(f"{body}\nout.push(f{index}({arguments}).y);")
        lines.append(f"out.push(((g, m, t) => {javascript(node('add', expr, 0.0))})({arguments}));")
    script = "const out = [];\n" + "\n".join(lines) + "\nconsole.log(JSON.stringify(out.map(String)));"
    done = subprocess.run(["node", "-e", script], check=True, capture_output=True, text=True, timeout=60)
    got = [float(x.replace("Infinity", "inf")) for x in json.loads(done.stdout)]
    # Node's sin, cos and pow may differ from C's in the last bit, which later operations enlarge.
    for index, value in enumerate(want):
        for seen in got[2 * index : 2 * index + 2]:
            assert seen == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), str(expressions[index])
