"""The site as `make docs` builds it: strictly, with search and formulas, and without anything from elsewhere."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """mkdocs is strict: a link, an anchor or a page of the navigation that is not there ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_of_docs_is_there_and_can_be_searched(site):
    pages = {
        str(path.relative_to(_ROOT / "docs").with_suffix(".html")).replace("README", "index")
        for path in (_ROOT / "docs").rglob("*.md")
    }
    assert not [page for page in pages if not (site / page).exists()]
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {page for page in pages if page != "index.html"} <= found
    assert not [place for place in found if place.startswith("source/tf_rnnt_kd")]


def test_formulas_are_drawn_by_the_browser(site):
    page = (site / "lattice" / "nodes.html").read_text(encoding="utf-8")
    assert page.count("<math") > 20 and "arithmatex" not in page
    assert not re.search(r"<math[^>]*>[^$]*?\\\\", page)


def test_links_into_the_repository_show_the_file(site):
    page = (site / "lattice" / "nodes.html").read_text(encoding="utf-8")
    assert 'href="../source/tf_rnnt_kd/lattice/fused.py.html"' in page
    source = (site / "source" / "tf_rnnt_kd" / "lattice" / "fused.py.html").read_text(encoding="utf-8")
    assert "node_log_probs" in source


@pytest.mark.parametrize("name", ["lattice", "losses", "models", "decoding", "records", "text", "serving"])
def test_the_reference_has_what_the_packages_export(site, name):
    package = importlib.import_module(f"tf_rnnt_kd.{name}")
    page = (site / "reference" / "api" / f"{name}.html").read_text(encoding="utf-8")
    exported = {public: getattr(package, public) for public in package.__all__}
    documented = {public: value for public, value in exported.items() if isinstance(value, type) or callable(value)}
    places = {public: (package.__name__, value.__module__) for public, value in documented.items()}
    missing = [
        public for public, modules in places.items() if not any(f'id="{home}.{public}"' in page for home in modules)
    ]
    assert documented and not missing, f"name them in docs/reference/api/{name}.md"


def test_commands_are_those_of_the_programs(site):
    from tf_rnnt_kd.programs import PROGRAMS

    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert not [script for script in PROGRAMS if script not in page]
    assert "--park_line" in page


def test_reading_fetches_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img)[^>]*src="(?:https?:)?//[^"]*"', text), page
        assert not re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="(?:https?:)?//[^"]*"', text), page
