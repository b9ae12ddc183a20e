"""HTML and SVG as nested elements, in which every text is escaped unless it is an element itself."""

import html
from collections.abc import Iterable

from xautolm_hpc.report.safe_text import one_line

VOID = frozenset({"br", "col", "hr", "input", "link", "meta", "wbr"})
"""Elements without an end."""


class Markup(str):
    """HTML that is ready: it was built here, from escaped texts."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Escape a text for HTML, control and other invisible characters included; HTML that is ready stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(one_line(text)))


def tag(name: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """Build an element.

    Args:
        name: Its name.
        children: Texts, which are escaped, and elements.
        attributes: Its attributes; ``_`` in a name stands for ``-``, one at its end is left out. ``None`` and ``False``
            leave an attribute out, ``True`` gives it no value.
    """
    given = ((key, value) for key, value in attributes.items() if value is not None and value is not False)  # 0 stays
    written = "".join(_attribute(key, value) for key, value in given)
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """Join texts, which are escaped, and elements."""
    return Markup("".join(map(escape, children)))


def breakable(name: str) -> Markup:
    """Build a name of several words that a line may break after each ``_``, and nowhere else."""
    return Markup(escape(name).replace("_", "_" + tag("wbr")))


def number(text: str, value: float | None, *, key: str) -> Markup:
    """Build a number of ``report.json`` as it is shown, with its exact value.

    Args:
        text: How it is shown.
        value: Its value; ``None`` if it is unknown.
        key: Where it stands in ``report.json``, such as ``best.metrics.f1``.
    """
    return tag("data", text, value="" if value is None else repr(value), data_key=key)


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(one_line(str(value)))}"'
