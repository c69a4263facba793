"""HTML from text: every string is escaped on its way in, unless it is `Safe`, and every tag is closed."""

import html

from qmargin.report._numbers import printable


class Safe(str):
    """HTML that is escaped already; only the functions of this module and the plots make it."""

    __slots__ = ()


def escaped(text: str) -> Safe:
    """`text` with control characters as spaces and `& < > " '` as entities; `Safe` text is returned as it is."""
    return text if isinstance(text, Safe) else Safe(html.escape(printable(text)))


def joined(*parts: str) -> Safe:
    """All parts, escaped where they are not yet."""
    return Safe("".join(map(escaped, parts)))


def tag(name: str, *content: str, **attributes: str) -> Safe:
    """An element with its content, escaped; `class_` and `aria_label` become `class` and `aria-label`.

    Example:
        >>> tag("td", "a < b", class_="num")
        '<td class="num">a &lt; b</td>'
    """
    names = {key: key.rstrip("_").replace("_", "-") for key in attributes}
    opening = "".join(f' {names[key]}="{escaped(value)}"' for key, value in attributes.items())
    return Safe(f"<{name}{opening}>{joined(*content)}</{name}>")
