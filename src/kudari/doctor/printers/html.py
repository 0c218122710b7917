"""Findings as one self-contained HTML page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.printers.text import finding_text

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
article { border-left: .3rem solid #888; padding: .2rem 1rem; margin: 1rem 0; }
article.error { border-color: #c0392b; } article.warning { border-color: #d68910; }
article.note { border-color: #2471a3; }
pre { overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
"""


def as_html(diagnoses: Diagnoses, title: str) -> str:
    """The report as a page without scripts and without anything from the network."""
    articles = "".join(
        f'<article class="{f.severity}"><h2>{escape(f.fault)}</h2>'
        f"<pre>{escape(finding_text(f))}</pre></article>"
        for f in diagnoses.shown
    )
    hidden = [f for f in diagnoses.findings if f.suppressed_by]
    symptoms = "".join(
        f"<li>{escape(f.fault)}: {escape(f.message)} (explained by {escape(f.suppressed_by or '')})</li>"
        for f in hidden
    )
    skipped = "".join(
        f"<tr><td>{escape(slug)}</td><td>{escape(why)}</td></tr>" for slug, why in diagnoses.skipped.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{articles or '<p>Nothing found.</p>'}"
        + (f"<h2>Symptoms</h2><ul>{symptoms}</ul>" if symptoms else "")
        + f"<h2>Passed</h2><p>{escape(', '.join(diagnoses.passed)) or 'none'}</p>"
        f"<h2>Skipped</h2><table>{skipped}</table></body></html>\n"
    )


def write_html(diagnoses: Diagnoses, path: Path, title: str) -> None:
    """Write the page to a file."""
    path.write_text(as_html(diagnoses, title), encoding="utf-8")
