"""The names of LaTeX that :mod:`kudari.report.mathml` understands, and what they stand for."""

from __future__ import annotations

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ",
    "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "ϕ", "varphi": "φ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π",
    "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "ell": "ℓ", "infty": "∞", "nabla": "∇",
    "partial": "∂", "top": "⊤", "emptyset": "∅",
}  # fmt: skip
OPERATORS = {
    "cdot": "⋅", "times": "×", "odot": "⊙", "otimes": "⊗", "oplus": "⊕", "circ": "∘", "div": "÷", "pm": "±",
    "mp": "∓", "leftarrow": "←", "gets": "←", "rightarrow": "→", "to": "→", "mapsto": "↦", "le": "≤",
    "leq": "≤", "ge": "≥", "geq": "≥", "lt": "<", "gt": ">", "ne": "≠", "neq": "≠", "in": "∈", "approx": "≈",
    "equiv": "≡", "sim": "∼", "propto": "∝", "ll": "≪", "gg": "≫", "sum": "∑", "prod": "∏",
    "ldots": "…", "dots": "…", "cdots": "⋯", "colon": ":", "mid": "∣", "vert": "|", "Vert": "‖", "|": "‖",
    "land": "∧", "lor": "∨", "neg": "¬", "forall": "∀", "lbrace": "{", "rbrace": "}", "{": "{", "}": "}",
    "ast": "∗", "star": "⋆", "prime": "′", "%": "%", "_": "_", "#": "#", "&": "&", "$": "$",
}  # fmt: skip
FENCES = {
    "(": "(", ")": ")", "[": "[", "]": "]", "|": "|", "/": "/", ".": "", "\\{": "{", "\\}": "}", "\\|": "‖",
    "\\lbrace": "{", "\\rbrace": "}", "\\vert": "|", "\\Vert": "‖", "\\lvert": "|", "\\rvert": "|",
    "\\lVert": "‖", "\\rVert": "‖", "\\langle": "⟨", "\\rangle": "⟩", "\\lfloor": "⌊", "\\rfloor": "⌋",
    "\\lceil": "⌈", "\\rceil": "⌉",
}  # fmt: skip
ACCENTS = {"hat": "^", "widehat": "^", "bar": "¯", "overline": "¯", "tilde": "~", "widetilde": "~",
           "dot": "˙", "ddot": "¨", "vec": "→", "check": "ˇ"}  # fmt: skip
FUNCTIONS = frozenset({"min", "max", "log", "exp", "ln", "sin", "cos", "tan", "tanh", "sup", "inf", "det",
                       "lim", "arg", "sign", "clip", "Pr"})  # fmt: skip
SPACES = {
    ",": "0.17em",
    ":": "0.22em",
    ";": "0.28em",
    "!": "-0.17em",
    " ": "0.3em",
    "quad": "1em",
    "qquad": "2em",
}
STYLES = {"mathrm": "normal", "mathbf": "bold", "mathit": "italic", "boldsymbol": "bold", "bm": "bold",
          "mathsf": "normal", "mathtt": "normal", "operatorname": "normal", "mathcal": "italic"}  # fmt: skip
TEXTS = frozenset({"text", "textrm", "textbf", "textit", "mbox", "texttt"})
IGNORED = frozenset({"displaystyle", "textstyle", "limits", "nolimits", "nonumber", "notag", "mathstrut",
                     "big", "Big", "bigl", "bigr", "Bigl", "Bigr"})  # fmt: skip
LINES = frozenset({"aligned", "align", "align*", "split", "gathered", "gather", "gather*", "array"})
