"""For the reference pages: doctests in docstrings are shown as code, which Markdown would take for quotations."""

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"(?m)^(?P<indent>[ ]*)>>> .*(?:\n(?![ ]*$).*)*")


class DoctestFences(Extension):
    """Put a fence around every doctest that has none."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring whose doctests are fenced."""
    return DOCTEST.sub(lambda found: "{indent}```pycon\n{0}\n{indent}```".format(found[0], **found.groupdict()), text)
