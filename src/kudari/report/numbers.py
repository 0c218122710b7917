"""Numbers as people read them: durations, counts, metric values, names of metrics."""

from __future__ import annotations

import math

SHARES = ("accuracy", "precision", "recall", "f1", "error_rate")
"""Metrics between 0 and 1 that people read in percent, as the end of their name."""

NAMES = {
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "samples_per_second": "Samples per second",
    "mae": "MAE",
    "mse": "MSE",
    "rmse": "RMSE",
    "r2": "R²",
    "f1": "F1",
    "auc": "AUC",
}


def is_share(key: str, *values: float) -> bool:
    """Whether a metric is read in percent: known by its name, and its finite values lie in [0, 1]."""
    return key.endswith(SHARES) and all(0 <= v <= 1 for v in values if math.isfinite(v))


def label(key: str) -> str:
    """The name of a metric in words.

    Example:
        >>> label("valid_accuracy"), label("grad_norm")
        ('Validation accuracy', 'Gradient norm')
    """
    if key in NAMES:
        return NAMES[key]
    for prefix, word in (("valid_", "Validation"), ("train_", "Training"), ("test_", "Test")):
        if key.startswith(prefix) and len(key) > len(prefix):
            rest = NAMES.get(key[len(prefix) :], key[len(prefix) :].replace("_", " "))
            first_word = rest.split(" ")[0]
            keep = first_word.isupper() or any(c.isdigit() for c in first_word)
            return f"{word} {rest if keep else rest[0].lower() + rest[1:]}"
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def number(value: float, digits: int = 4) -> str:
    """A value with ``digits`` significant digits, thousands separated, powers of ten written out.

    Example:
        >>> number(0.0312049), number(12345.6), number(3.2e-7), number(float("nan"))
        ('0.0312', '12,346', '3.2×10⁻⁷', 'not a number')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        power = f"10{superscript(int(exponent))}"
        return minus(power if mantissa == "1" else f"{mantissa}×{power}")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{decimals}f}"
    return minus(text.rstrip("0").rstrip(".") if "." in text else text)


def minus(text: str) -> str:
    """The typographic minus sign instead of the hyphen."""
    return text.replace("-", "−")


def superscript(exponent: int) -> str:
    """An exponent in small raised digits.

    Example:
        >>> superscript(-3)
        '⁻³'
    """
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def metric(key: str, value: float) -> str:
    """A metric's value: percent for shares, else four significant digits.

    Example:
        >>> metric("valid_accuracy", 0.98611), metric("valid_loss", 0.051234)
        ('98.61 %', '0.05123')
    """
    if is_share(key, value) and math.isfinite(value):
        return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"
    return number(value)


def duration(seconds: float) -> str:
    """A time span with its two largest units.

    Example:
        >>> duration(0.0421), duration(8.26), duration(127), duration(3 * 3600 + 300)
        ('42 ms', '8.3 s', '2 min 7 s', '3 h 5 min')
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 1:
        return f"{round(1000 * seconds)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    steps = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
    for large, large_name, small, small_name in steps:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "step"), plural(1200, "epoch")
        ('1 step', '1,200 epochs')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
