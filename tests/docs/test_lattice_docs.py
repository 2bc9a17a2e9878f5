"""The pages on the lattice: their code runs, and no loss is missing."""

import pathlib
import re
import sys

import pytest

from tf_rnnt_kd import losses
from tf_rnnt_kd.losses import registry

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_DOCS = _ROOT / "docs" / "lattice"
_PAGES = sorted(_DOCS.glob("*.md"))


def _code(page):
    return re.findall(r"^```python\n(.*?)^```", (_DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def pairs(monkeypatch):
    for folder in ("losses", "lattice"):
        monkeypatch.syspath_prepend(str(_ROOT / "tests" / folder))
    import lattice_pairs

    yield lattice_pairs
    for name in ("lattice_pairs", "lattice_batches"):
        sys.modules.pop(name, None)


def test_the_added_loss_works_is_twenty_lines_and_passes_its_own_test(pairs, monkeypatch):
    function, line, test = _code("adding_a_loss.md")
    assert len(function.partition("\n\n\n")[2].splitlines()) <= 20
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    namespace = {"_register": registry._register}
    for part in (function, line, test):
        exec(part, namespace)
    pair = pairs.make_pair(3)
    namespace["test_reverse_collapsed"](pair)

    inputs = losses.LossInputs(pair.student, teacher=pair.teacher, **pair.lengths)
    total, terms = losses.Objective({"reverse_collapsed": {"weight": 0.5, "shift": 1}})(inputs)
    assert (total.numpy() == 0.5 * terms["reverse_collapsed"].numpy()).all()
    assert (total.numpy() > 0).any()


def test_the_test_of_the_docs_can_fail(pairs):
    function, _, test = _code("adding_a_loss.md")
    namespace = {}
    exec(function.replace("kl(pair.student, pair.teacher)", "kl(pair.teacher, pair.student)"), namespace)
    exec(test, namespace)
    with pytest.raises(AssertionError):
        namespace["test_reverse_collapsed"](pairs.make_pair(3))


def test_every_page_and_every_loss_is_in_the_index():
    index = (_DOCS / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in _PAGES if page.name != "README.md" and f"({page.name})" not in index]
    assert not [name for name in losses.names() if f"`{name}`" not in index]


def test_pictures_are_small():
    pictures = list((_ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    assert not [path.name for path in pictures if path.stat().st_size > 60_000]
