"""Which utterances say the same: the filters that compare utterances with each other.

What is grouped is some hundred bytes an utterance: digests and a place, never text or audio. A group is judged as a
whole and in the order of the ids' MD5, so who stays depends neither on the order of bundles nor on which shards an
earlier run completed: those give their candidates again.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam

from beam_pipelines.transforms.batch import ShardKey
from beam_pipelines.transforms.filters import DUPLICATE, SAME_TEXT, Filters
from beam_pipelines.transforms.scores import Row


class Candidate(NamedTuple):
    """An utterance that passed the other filters: MD5 of its id, its place, and MD5 of its samples."""

    order: str
    key: ShardKey
    position: int
    audio: str


class Same(NamedTuple):
    """The verdict on the utterance at `position`: it is one of `count` with its text; reason and error if refused."""

    position: int
    count: int  # type: ignore[assignment]  # a field, not tuple.count
    reason: str = ""
    error: str = ""


def candidates(key: ShardKey, *, rows: Iterable[Row]) -> Iterator[tuple[bytes, Candidate]]:
    """(digest of the text, candidate) for rows that no other filter refused, of the shard `key`."""
    for row in rows:
        # Rows of a complete shard tell what these filters have refused; it counts in its group like the others.
        if row.reason in ("", SAME_TEXT, DUPLICATE):
            order = hashlib.md5(row.utterance_id.encode()).hexdigest()
            yield hashlib.md5(row.text.encode()).digest(), Candidate(order, key, row.position, row.audio_md5)


def judge(group: Iterable[Candidate], *, filters: Filters) -> Iterator[tuple[ShardKey, Same]]:
    """Verdicts on all utterances of one text, in the order of their MD5."""
    group = sorted(group)
    heard: set[str] = set()
    kept = 0
    for one in group:
        if filters.drop_duplicates and one.audio in heard:
            verdict = (DUPLICATE, "another utterance has the same samples and the same text, --drop_duplicates")
        elif filters.max_same_text is not None and kept >= filters.max_same_text:
            verdict = (SAME_TEXT, f"{len(group)} utterances have this text, --max_same_text={filters.max_same_text}")
        else:
            verdict = ("", "")
            kept += 1
        heard.add(one.audio)
        yield one.key, Same(one.position, len(group), *verdict)


class JudgeSameText(beam.PTransform):
    """PCollection of (digest of text, `Candidate`) -> PCollection of (shard, `Same`), for texts that come again."""

    def __init__(self, filters: Filters):
        super().__init__()
        self._filters = filters

    def expand(self, candidates):
        return candidates | beam.GroupByKey() | beam.FlatMap(_judge_repeated, filters=self._filters)


def _judge_repeated(element, filters):
    group = list(element[1])
    return judge(group, filters=filters) if len(group) > 1 else ()
