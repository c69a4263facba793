"""The frame of every page: one HTML file that holds everything it shows and asks no other place for anything.

The frame is `frame.html`, the looks are `page.css`, both beside this file. There is no script on a page, and its
content security policy forbids any request.
"""

from importlib.resources import files
from string import Template

from qmargin.report._canvas import palette_css
from qmargin.report._markup import escaped


def framed_page(title: str, body: str) -> str:
    """The whole page as text.

    Args:
        title: of the page, as text.
        body: markup, what stands between the `body` tags.
    """
    style = f"{palette_css()}\n{template('page.css').template}"
    return template("frame.html").substitute(title=escaped(title), style=style, body=body.rstrip("\n"))


def template(name: str) -> Template:
    """A file beside this one, as a template."""
    return Template(files("qmargin.report").joinpath(name).read_text(encoding="utf-8"))
