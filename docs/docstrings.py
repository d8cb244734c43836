"""A Griffe extension: docstrings as the site's Markdown.

Docstrings refer to public names by roles and show sessions as doctests. The site has a
link for each role, and a code block for each session.
"""

import importlib
import re

import griffe

MODULES = (
    *("checkpoint", "data", "decode", "diagnostics", "initializers", "losses"),
    *("metrics", "normalization", "optimizers", "plotting", "pooling", "seq2seq"),
    *("testing", "train", "truncated"),
)
ROLE = re.compile(r":(?:func|class|data|mod|meth):`~?([\w.]+)`")
SESSION = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
MARKED = re.compile(r"::$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring once it is loaded."""

    def __init__(self):
        super().__init__()
        self.public = public_paths()

    def on_object(self, *, obj, **kwargs):
        """Rewrite the docstring of an object."""
        if obj.docstring is None:
            return
        inside = ".".join(obj.path.split(".")[:2])
        text = ROLE.sub(lambda role: self.link(role[1], inside), obj.docstring.value)
        text = MARKED.sub(":", text)
        text = SESSION.sub(lambda session: f"```pycon\n{session[0]}\n```", text)
        obj.docstring.value = text

    def link(self, name, inside):
        """Link a name to its place on an API page; a private one is only shown."""
        paths = self.public.get(name.rpartition(".")[2], ())
        found = [path for path in paths if path in (name, f"{inside}.{name}")]
        found = found or [path for path in paths if path.endswith(f".{name}")]
        shown = name.rpartition(".")[2] if name.startswith("jaxrnn._") else name
        return f"[`{shown}`][{found[0]}]" if found else f"`{shown}`"


def public_paths():
    """Map each last part of a public path to the paths that end in it."""
    paths = {}
    for module in ("jaxrnn", *(f"jaxrnn.{name}" for name in MODULES)):
        for name in importlib.import_module(module).__all__:
            path = f"{module}.{name}"
            if path.partition(".")[2] not in MODULES:
                paths.setdefault(name, []).append(path)
    return paths
