"""Hooks of the site: pages kept elsewhere, links to sources, and sessions.

Pages link to files of the repository by relative paths, so that they can be read
without the site. The site has some of these files as pages; the others are links to the
repository.
"""

import os
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
ELSEWHERE = {  # the page, and the file of the repository that it shows
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "examples.md": "examples/README.md",
}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?\)")
HREF = re.compile(r'(<a [^>]*href=")([^":#]+)(#[^"]*)?"')
SESSION = re.compile(r"^    >>> .*\n(?:(?:\n)*    .*\n)*", re.MULTILINE)


def on_files(files, config):
    """Add the pages whose source is not in ``docs``."""
    for page, source in ELSEWHERE.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links into the repository, and mark sessions as Python."""
    uri = page.file.src_uri
    if uri.endswith(".py"):  # a notebook
        return markdown
    source = ROOT / ELSEWHERE.get(uri, f"docs/{uri}")

    def link(match):
        before, path, anchor = match[1], match[2], match[3] or ""
        return f"{before}{_target(path, source, uri, config, files)}{anchor})"

    blocks = re.split(r"(^```.*?^```\n)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        block
        if block.startswith("```")
        else SESSION.sub(_fenced, LINK.sub(link, block))
        for block in blocks
    )


def on_page_content(html, page, config, files):
    """Point the links of notebooks, which come as HTML, in the same way."""
    uri = page.file.src_uri
    if not uri.endswith(".py"):
        return html

    def link(match):
        before, path, anchor = match[1], match[2], match[3] or ""
        target = _target(path, ROOT / "docs" / uri, uri, config, files)
        if not target.startswith(config["repo_url"]):
            inside = os.path.normpath(pathlib.PurePosixPath(uri).parent / target)
            target = files.get_file_from_path(inside).url_relative_to(page.file)
        return f'{before}{target}{anchor}"'

    return HREF.sub(link, html)


def _target(path, source, uri, config, files):
    target = os.path.normpath(source.parent / path)
    name = pathlib.Path(target).relative_to(ROOT).as_posix()
    pages = {kept: page for page, kept in ELSEWHERE.items()}
    inside = pages.get(name, name.removeprefix("docs/"))
    if files.get_file_from_path(inside) is None:
        if not pathlib.Path(target).exists():
            raise FileNotFoundError(f"{uri} links to {path}, which does not exist")
        kind = "tree" if pathlib.Path(target).is_dir() else "blob"
        return f"{config['repo_url']}/{kind}/main/{name}"
    return os.path.relpath(inside, pathlib.PurePosixPath(uri).parent)


def _fenced(match):
    lines = [line.removeprefix("    ") for line in match[0].rstrip().splitlines()]
    return "\n".join(["```pycon", *lines, "```", "", ""])
