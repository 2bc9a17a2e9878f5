"""report.html and the statistics in dataset.json, against counts made here."""

import html.parser
import json

import made_corpora as made
import numpy as np
import pytest
from made_corpora import prepare


class _Page(html.parser.HTMLParser):
    """Tables as lists of rows, pictures' addresses, and tags that are left open."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.pictures, self.titles, self._open = [], [], [], []
        self._cell = None
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        if tag not in ("img", "meta"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "img":
            self.pictures.append(dict(attrs)["src"])
        self._cell = "" if tag in ("td", "th", "h2") else self._cell

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
        elif tag == "h2":
            self.titles.append(self._cell)

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    corpus, output = folder / "corpus", folder / "records"
    made.chapter(corpus, "dev", "3", {0: "<b>bold</b> & co"})
    for speaker, number in (("1", 3), ("2", 1)):
        made.chapter(corpus, "train", speaker, {index: f"word {index}" for index in range(number)})
    for index, seconds in enumerate((0.7, 1.2, 1.3, 45.0)):
        name = f"4-7-{index:04d}"
        made.flac(corpus / "train" / "4" / "7" / f"{name}.flac", seconds, seed=1000 + index)
        with (corpus / "train" / "4" / "7" / "4-7.trans.txt").open("a") as transcripts:
            transcripts.write(f"{name} LONG\n")
    for index in range(5):
        made.put(corpus / "train" / "5" / "7" / f"<i>{index}.flac", b"")
    info, _ = prepare(corpus, output)
    return info, output


def test_statistics(dataset):
    info, output = dataset
    page = json.loads((output / "dataset.json").read_text())
    statistics = page["statistics"]["splits"]["train"]
    seconds = [value["num_samples"].numpy() / 16000 for key, value in made.read(output).items() if key[0] == "train"]
    expected = np.histogram(seconds, [*np.arange(0, 40.5, 0.5), 1e9])[0]
    assert statistics["lengths"] == {"step_seconds": 0.5, "utterances": expected.tolist()}
    assert statistics["speakers"]["number"] == 3
    hours = {entry["speaker"]: (entry["utterances"], entry["hours"]) for entry in statistics["speakers"]["most"]}
    assert list(hours) == ["4", "1", "2"]
    assert hours["4"] == (4, pytest.approx((0.7 + 1.2 + 1.3 + 45) / 3600, rel=1e-3))
    assert hours["1"] == (3, pytest.approx(1.5 / 3600))
    assert statistics["rejected"] == {"missing_transcript": 5}
    assert statistics["sources"] == 13
    assert page["statistics"]["sources"] == 14
    assert info.statistics == page["statistics"]


def test_the_page_says_the_same_and_needs_nothing_else(dataset):
    _, output = dataset
    text = (output / "report.html").read_text()
    page = _Page(text)
    assert page.titles == ["Hours", "Lengths", "Speakers", "Refused", "Settings"]
    splits = {row[0]: row for row in page.tables[0][1:]}
    assert splits["train"][1:4] == ["yes", "13", "8"]
    assert splits["dev"][1:4] == ["yes", "1", "1"]
    refused = next(table for table in page.tables if table[0][0] == "reason")
    assert refused[1] == ["missing_transcript", "0", "5", "5", f"{500 / 14:.2f} %"]
    examples = next(table for table in page.tables if "what is wrong" in table[0])
    assert [row[2] for row in examples[1:]] == ["<i>0", "<i>1", "<i>2"]
    # Hours, and the lengths of two splits.
    assert len(page.pictures) == 3
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.pictures)
    for word in ("<i>", "<b>", "http://", "https://", "<script"):
        assert word not in text


def test_a_corpus_without_speakers_or_refusals_has_a_page_too(tmp_path):
    made.flac(tmp_path / "audio" / "a.flac")
    prepare(tmp_path / "audio", tmp_path / "records", format="audio")
    text = (tmp_path / "records" / "report.html").read_text()
    _Page(text)
    assert "No speaker is known." in text
    assert "Nothing." in text
