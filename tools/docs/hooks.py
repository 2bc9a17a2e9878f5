"""What `make docs` does beside mkdocs: folders in the navigation, links that leave docs/, some pages, formulas.

Pages are written so that their links work where they lie, in the repository: `../../tf_rnnt_kd/train.py` is the file.
In the site such a file is a page of its own under source/. Formulas become MathML, which browsers draw by themselves.
"""

import html
import importlib
import json
import logging
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File, InclusionLevel

from tf_rnnt_kd import command_line, programs

_ROOT = Path(__file__).resolve().parents[2]
_NOTEBOOK = "notebooks/from_audio_to_student.ipynb"
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_LANGUAGES = {".py": "python", ".json": "json", ".yaml": "yaml", ".toml": "toml"}
# Warnings of this logger end a strict build, as mkdocs' own do.
_log = logging.getLogger("mkdocs.hooks.tf_rnnt_kd")


def on_config(config):
    sections = [_expanded(item, Path(config.docs_dir)) for item in config.nav]
    config.nav = [section for section in sections if [*section.values()] != [[]]]
    return config


def on_files(files, config):
    """Adds the notebook, the programs' flags, and a page for each file of the repository that a page links to."""
    files.append(_generated(config, "notebook.md", _notebook((_ROOT / _NOTEBOOK).read_text(encoding="utf-8"))))
    files.append(_generated(config, "reference/commands.md", _commands()))
    pages = {}
    texts = {_in_repository(file.src_uri): file.content_string for file in files.documentation_pages()}
    while texts:
        linked = {link for name, text in texts.items() for link in _links(text, name)}
        new = sorted(link for link in linked if _page_of(link).startswith("source/") and _page_of(link) not in pages)
        texts = {name: _as_page(name, (_ROOT / name).read_text(encoding="utf-8")) for name in new}
        for name, text in texts.items():
            pages[_page_of(name)] = name
            files.append(_generated(config, _page_of(name), text))
    return files


def on_page_markdown(markdown, page, **_):
    """Links as they are in the repository become links of the site."""
    here, name = posixpath.dirname(page.file.src_uri), _in_repository(page.file.src_uri)

    def of_site(match):
        target = _resolved(match.group(), name)
        return match.group() if target is None else posixpath.relpath(_page_of(target), here)

    return _LINK.sub(of_site, markdown)


def on_page_content(content, page, **_):
    def of_browser(match):
        display = "inline" if match.group(1) == "span" else "block"
        drawn = convert(html.unescape(match.group(2)), display=display)
        if "\\" in drawn:
            _log.warning("%s: no MathML for %s", page.file.src_uri, match.group(2).strip())
        return drawn

    return _FORMULA.sub(of_browser, content)


def _expanded(item, docs):
    """An item of `nav` in which each `folder/*` is replaced by the pages of the folder."""
    if not isinstance(item, dict):
        return item
    ((title, content),) = item.items()
    if isinstance(content, str):
        return item
    pages = []
    for entry in content:
        folder = entry.removesuffix("/*") if isinstance(entry, str) else ""
        if folder and folder != entry:
            pages += sorted(str(path.relative_to(docs)) for path in (docs / folder).glob("*.md"))
        else:
            pages.append(_expanded(entry, docs))
    return {title: pages}


def _in_repository(src_uri):
    """Where a page of the site lies in the repository."""
    if src_uri == "notebook.md":
        return _NOTEBOOK
    if src_uri.startswith("source/"):
        name = src_uri.removeprefix("source/")
        return name if (_ROOT / name).is_file() else name.removesuffix(".md")
    return f"docs/{src_uri}"


def _page_of(name):
    """Where a file of the repository lies in the site."""
    if name == _NOTEBOOK:
        return "notebook.md"
    in_docs = name.removeprefix("docs/")
    if in_docs != name and not name.endswith(".py"):
        return in_docs
    return f"source/{name}" if name.endswith(".md") else f"source/{name}.md"


def _links(text, name):
    return {target for match in _LINK.finditer(text) if (target := _resolved(match.group(), name)) is not None}


def _resolved(link, name):
    """The file that a link means on the page `name`; None where there is no such file, for mkdocs to complain about."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    return None if target.startswith("..") or not (_ROOT / target).is_file() else target


def _as_page(name, text):
    if name.endswith(".md"):
        return text
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n# {name}\n\n``````{language}\n{text.rstrip()}\n``````\n"


def _notebook(text):
    """Markdown of a notebook without outputs."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


def _commands():
    """Markdown of what --help says of each program."""
    parts = ["# Commands", "What `--help` prints. Programs of the pipelines give all other flags to Apache Beam."]
    for script, module in programs.PROGRAMS.items():
        text = command_line.help_text(importlib.import_module(module).define_flags, width=110)
        name = programs.typed(module)
        parts.append(f"## {name}\n\n`python -m {name}`, installed also as `{script}`.\n\n```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def _generated(config, src_uri, text):
    file = File.generated(config, src_uri, content=text)
    if src_uri.startswith("source/"):
        file.inclusion = InclusionLevel.NOT_IN_NAV
    return file
