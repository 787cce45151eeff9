"""HTML in which text cannot become markup: every string is escaped, unless it is ``Markup`` already."""

from __future__ import annotations

from html import escape


class Markup(str):
    """HTML that is finished; only this module, the style sheet and ``picture.svg`` make it."""


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """An element; `class_` and the like lose their underscore, others become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """Children one after another."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))
