"""Who speaks in each split: how many there are, and those who speak most. Counted by Beam, for there may be many."""

from collections.abc import Iterable

import apache_beam as beam

from beam_pipelines.transforms.tally import ShardReport

MOST = 5


class CountSpeakers(beam.PTransform):
    """ShardReports -> (split, (number of speakers, ((samples, utterances, speaker), ...))), the `MOST` longest.

    Utterances without a speaker are left out.
    """

    def expand(self, reports):
        each = (
            reports
            | "Speakers" >> beam.FlatMap(_speakers)
            | "Add" >> beam.CombinePerKey(_add)
            | "BySplit" >> beam.Map(lambda item: (item[0][0], (item[1][1], item[1][0], item[0][1])))
        )
        number = each | "Number" >> beam.combiners.Count.PerKey()
        most = each | "Most" >> beam.combiners.Top.PerKey(MOST)
        return (number, most) | "Together" >> beam.CoGroupByKey() | "Unwrap" >> beam.Map(_unwrap)


def _speakers(report: ShardReport) -> Iterable[tuple[tuple[str, str], tuple[int, int]]]:
    for speaker, utterances, samples in report.speakers:
        if speaker:
            yield (report.split, speaker), (utterances, samples)


def _add(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    utterances, samples = 0, 0
    for more_utterances, more_samples in counts:
        utterances += more_utterances
        samples += more_samples
    return utterances, samples


def _unwrap(item) -> tuple[str, tuple[int, tuple[tuple[int, int, str], ...]]]:
    split, ((number,), (most,)) = item
    return split, (number, tuple(most))
