"""What became of one shard's sources, in numbers that add up: the same whatever the order they are added in."""

import collections
import dataclasses
from typing import Any

from beam_pipelines.transforms.utterances import Outcome
from tf_rnnt_kd import records

# Lengths are counted in steps of half a second; the last bin holds all that are longer.
LENGTH_STEP_SECONDS = 0.5
LENGTH_BINS = 81


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """One shard, written.

    Attributes:
        sources: how many were read.
        num_cut, samples_cut: recordings that were cut, and their samples; cuts_in_speech: cuts that are in no pause.
        samples: of the utterances.
        lengths: utterances in each of `LENGTH_BINS` steps of `LENGTH_STEP_SECONDS`.
        speakers, domains: (name, utterances, samples) for each, sorted.
        rejected: lines for the dead-letter file.
    """

    split: str
    shard: records.Shard
    labelled: bool
    sources: int
    num_cut: int
    samples_cut: int
    cuts_in_speech: int
    samples: int
    lengths: tuple[int, ...]
    speakers: tuple[tuple[str, int, int], ...]
    domains: tuple[tuple[str, int, int], ...]
    rejected: tuple[dict[str, str], ...]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ShardReport":
        """The inverse of `dataclasses.asdict` through JSON."""
        content = {name: _tuples(value) for name, value in content.items()}
        return cls(**{**content, "shard": records.Shard(**content["shard"])})


class Tally:
    """Adds up utterances and refusals of a shard."""

    def __init__(self, split: str, *, labelled: bool, sources: int):
        self._split, self._labelled, self._sources = split, labelled, sources
        self.num_cut = self.samples_cut = self.cuts_in_speech = 0
        self._lengths = [0] * LENGTH_BINS
        self._speakers: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        self._domains: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        self._rejected: list[dict[str, str]] = []

    def add(self, *, num_samples: int, speaker: str, domain: str) -> None:
        """An utterance that was written."""
        step = int(num_samples / records.SAMPLE_RATE / LENGTH_STEP_SECONDS)
        self._lengths[min(step, LENGTH_BINS - 1)] += 1
        for counts in (self._speakers[speaker], self._domains[domain]):
            counts[0] += 1
            counts[1] += num_samples

    def refuse(self, outcome: Outcome) -> None:
        """An utterance, or a source, that gives none."""
        self._rejected.append(
            {
                "id": outcome.utterance_id,
                "split": self._split,
                "source": outcome.source,
                "reason": outcome.reason,
                "error": outcome.error,
            }
        )

    def report(self, shard: records.Shard) -> ShardReport:
        """All of it, once the shard is written."""
        return ShardReport(
            split=self._split,
            shard=shard,
            labelled=self._labelled,
            sources=self._sources,
            num_cut=self.num_cut,
            samples_cut=self.samples_cut,
            cuts_in_speech=self.cuts_in_speech,
            samples=sum(samples for _, samples in self._domains.values()),
            lengths=tuple(self._lengths),
            speakers=_sorted(self._speakers),
            domains=_sorted(self._domains),
            rejected=tuple(self._rejected),
        )


def _sorted(counts: dict[str, list[int]]) -> tuple[tuple[str, int, int], ...]:
    return tuple((name, utterances, samples) for name, (utterances, samples) in sorted(counts.items()))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
