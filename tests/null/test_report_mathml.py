"""LaTeX of update rules as MathML, and an honest refusal of everything else."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kudari.rules
from kudari.compile.formula import formula_latex
from kudari.compile.notation import Rule
from kudari.compile.trace import trace
from kudari.report.mathml import NotUnderstood, to_mathml
from tests.null import report_runs


def inside(latex: str) -> str:
    return re.fullmatch(r'<math display="block">(.*)</math>', to_mathml(latex), re.DOTALL).group(1)


@pytest.mark.parametrize(
    "latex, mathml",
    [
        (r"\beta_1", "<msub><mi>β</mi><mn>1</mn></msub>"),
        (r"g_t^{2}", "<msubsup><mi>g</mi><mi>t</mi><mn>2</mn></msubsup>"),
        (r"g^2_t", "<msubsup><mi>g</mi><mi>t</mi><mn>2</mn></msubsup>"),
        (r"x^23", "<mrow><msup><mi>x</mi><mn>2</mn></msup><mn>3</mn></mrow>"),
        (r"\sqrt[3]{x}", "<mroot><mi>x</mi><mn>3</mn></mroot>"),
        (r"\hat{m}", '<mover accent="true"><mi>m</mi><mo stretchy="false">^</mo></mover>'),
        (r"a \cdot b", "<mrow><mi>a</mi><mo>⋅</mo><mi>b</mi></mrow>"),
        (r"a - 0.5", "<mrow><mi>a</mi><mo>−</mo><mn>0.5</mn></mrow>"),
        (r"\operatorname{sign}(x)", '<mrow><mi>sign</mi><mo stretchy="false">(</mo><mi>x</mi>'
                                    '<mo stretchy="false">)</mo></mrow>'),
        (r"a < b", "<mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow>"),
        (r"\max_{i} x", "<mrow><munder><mi>max</mi><mi>i</mi></munder><mi>x</mi></mrow>"),
        (r"\text{if } t > 1", "<mrow><mtext>if\u00a0</mtext><mi>t</mi><mo>&gt;</mo><mn>1</mn></mrow>"),
    ],
)  # fmt: skip
def test_conversion(latex, mathml):
    assert inside(latex) == mathml


def test_fences_of_left_and_right_stretch_around_their_content():
    found = inside(r"\left( \frac{a}{b} \right]")
    assert found.count('stretchy="true"') == 2
    assert "<mfrac><mi>a</mi><mi>b</mi></mfrac>" in found
    assert found.index(">(<") < found.index("<mfrac>") < found.index(">]<")


def test_an_empty_fence_draws_nothing():
    assert inside(r"\left. x \right|").count("<mo") == 1


@pytest.mark.parametrize("latex", [report_runs.ADAMW, "a &= b \\\\ c &= d", "\\[ a &= b \\\\ c &= d \\]"])
def test_lines_become_rows_of_one_table(latex):
    rows = latex.count("\\\\") + 1
    assert inside(latex).count("<mtr>") == rows
    assert inside(latex).count("<mtd>") == 2 * rows


def test_dollars_around_the_formula_are_taken_off():
    assert inside("$x$") == inside("$$x$$") == "<mi>x</mi>"


@pytest.mark.parametrize(
    "latex",
    [r"\weird", "{a", "a}", r"\frac{a}", r"\left( a", r"a \right)", r"\begin{aligned} a",
     r"\begin{tikz}\end{tikz}", "x_1_2", r"\text{a\b}", "é^", r"\sqrt[3", "§", r"\hat"],
)  # fmt: skip
def test_what_is_outside_the_subset_is_refused(latex):
    with pytest.raises(NotUnderstood):
        to_mathml(latex)


@given(st.text(alphabet="\\{}[]()^_&$ abx12<'\n|", max_size=30))
def test_no_text_crashes_it_or_leaves_tags_unbalanced(latex):
    try:
        found = to_mathml(latex)
    except NotUnderstood:
        return
    opened: list[str] = []
    for end, name in re.findall(r"<(/?)(\w+)", found):
        if end:
            assert opened.pop() == name
        else:
            opened.append(name)
    assert opened == []


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(kudari.rules.__path__)])
def test_the_formula_of_every_rule_is_inside_the_subset(name):
    pytest.importorskip("kudari.compile.latex", reason="needs the LaTeX printer")
    module = importlib.import_module(f"kudari.rules.{name}")
    rule = next(v for v in vars(module).values() if isinstance(v, Rule))
    config = {declared.name: declared.default for declared in rule.declared}
    assert "<mtr>" in to_mathml(formula_latex(rule, trace(rule, config)))
