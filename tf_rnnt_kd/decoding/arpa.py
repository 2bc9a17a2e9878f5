"""Reading n-gram language models in ARPA format, as arrays that a graph can search."""

import dataclasses
import gzip
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tf_rnnt_kd.decoding.words import WORD_START

BEGIN, END = "<s>", "</s>"
UNKNOWN = ("<unk>", "<UNK>")  # tools differ


@dataclasses.dataclass(frozen=True)
class Ngrams:
    """A back-off model over ids: 0 is <unk>, 1..V-1 are tokens, V is <s>, V + 1 is </s>.

    A node is a context that the model lists: a tuple of ids; node 0 is the empty one. log P(id | context) is that of
    the entry (node, id) where there is one; else the node's `backoff` plus log P(id | its `shorter`). Natural logs.

    order: n. start: node of the beginning of a sentence. vocab_size: V.
    backoff: float32 [nodes]. shorter: int32 [nodes], the longest listed proper suffix; 0 for node 0.
    first: int32 [nodes + 1], entries of node k are first[k] .. first[k + 1] - 1, sorted by id.
    entry_id: int32, entry_log_prob: float32, entry_next: int32 [entries]; `next` is the longest listed suffix of the
      context with the id.
    known: bool [V], the model lists the token itself; others are taken as <unk>.
    """

    order: int
    vocab_size: int
    start: int
    backoff: np.ndarray
    shorter: np.ndarray
    first: np.ndarray
    entry_id: np.ndarray
    entry_log_prob: np.ndarray
    entry_next: np.ndarray
    known: np.ndarray


def read_arpa(path: str | os.PathLike, *, pieces: Sequence[str]) -> Ngrams:
    """Reads an ARPA file, plain or .gz, whose words are the pieces of a tokenizer.

    Where every piece is a whole word, the file's words may lack the mark U+2581. What the tokenizer lacks is left out:
    no search can produce it.

    Args:
      path: the file.
      pieces: V strings, the blank first.

    Raises:
      ValueError: the file is cut short or no ARPA file, it lacks pieces and has no <unk>, or it is over other words.
    """
    sections = _read_sections(pathlib.Path(path))
    vocab_size = len(pieces)
    unigrams = [words[0] for words in sections[0]]
    ids = _ids(path, pieces=pieces, words=unigrams)
    listed = {ids.get(word) for word in unigrams}
    known = np.array([index in listed for index in range(vocab_size)])
    translated = []
    for section in sections:
        rows = {}
        for words, (log_prob, backoff) in section.items():
            key = tuple(ids.get(word, -1) for word in words)
            if -1 not in key:
                rows[key] = log_prob, backoff
        translated.append(rows)
    nodes: dict[tuple[int, ...], int] = {(): 0}
    for rows in translated[:-1]:
        nodes.update({key: len(nodes) + k for k, key in enumerate(rows)})

    def longest(context):
        while context not in nodes:
            context = context[1:]
        return nodes[context]

    entries = []
    backoff = np.zeros([len(nodes)], np.float32)
    shorter = np.zeros([len(nodes)], np.int32)
    for rows in translated:
        for key, (log_prob, weight) in rows.items():
            if key[:-1] not in nodes:
                raise ValueError(f"{path} lists an n-gram and not its context: {_words(key, pieces)}")
            entries.append((nodes[key[:-1]], key[-1], log_prob, longest(key[-(len(sections) - 1) :])))
            if key in nodes:
                backoff[nodes[key]] = weight
                shorter[nodes[key]] = longest(key[1:])
    entries.sort()
    columns = list(zip(*entries, strict=True))
    return Ngrams(
        order=len(sections),
        vocab_size=vocab_size,
        start=nodes.get((vocab_size,), 0),
        backoff=backoff,
        shorter=shorter,
        first=np.searchsorted(np.array(columns[0]), np.arange(len(nodes) + 1)).astype(np.int32),
        entry_id=np.array(columns[1], np.int32),
        entry_log_prob=np.array(columns[2], np.float32),
        entry_next=np.array(columns[3], np.int32),
        known=known,
    )


def _read_sections(path):
    """[{words: (log-prob, back-off weight)}] for each order, natural logs."""
    sections, promised, current, number = [], {}, None, 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for line in file:
                number += 1
                line = line.strip()
                if not line or (current is None and line == "\\data\\"):
                    continue
                if line == "\\end\\":
                    break
                if line.startswith("ngram ") and current is None:
                    order, _, count = line[len("ngram ") :].partition("=")
                    promised[int(order)] = int(count)
                elif line == f"\\{len(sections) + 1}-grams:":
                    current = {}
                    sections.append(current)
                elif current is not None:
                    current.update([_ngram(line.split(), order=len(sections))])
            else:
                raise ValueError("it has no \\end\\: it is cut short")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as an ARPA file: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no ARPA file, see line {number}: {error}") from error
    found = {order: len(section) for order, section in enumerate(sections, start=1)}
    if not found or found != promised:
        raise ValueError(f"{path} promises n-grams by order {promised} and holds {found}: make it again")
    return sections


def _ngram(fields, *, order):
    if len(fields) not in (order + 1, order + 2):
        raise ValueError(f"{len(fields)} fields for an n-gram of order {order}")
    weight = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
    return tuple(fields[1 : order + 1]), (float(fields[0]) * math.log(10.0), weight * math.log(10.0))


def _ids(path, *, pieces, words):
    """{word of the file: id}."""
    ids = {piece: index for index, piece in enumerate(pieces) if index}
    if all(piece.startswith(WORD_START) for piece in pieces[1:]) and not any(WORD_START in word for word in words):
        ids = {piece.removeprefix(WORD_START): index for piece, index in ids.items()}
    there = set(words)
    unknown = next((spelling for spelling in UNKNOWN if spelling in there), None)
    missing = [piece for piece in ids if piece not in there]
    if len(missing) == len(ids):
        raise ValueError(
            f"{path} has none of the tokenizer's pieces ({', '.join(missing[:5])}, ...): train the language model on "
            "text that was cut into these pieces"
        )
    if missing and unknown is None:
        raise ValueError(
            f"{path} lacks {len(missing)} pieces ({', '.join(missing[:5])}) and has no {UNKNOWN[0]}: train the "
            "language model with one"
        )
    return {**ids, unknown: 0, BEGIN: len(pieces), END: len(pieces) + 1}


def _words(key, pieces):
    names = [UNKNOWN[0], *pieces[1:], BEGIN, END]
    return " ".join(names[index] for index in key)
