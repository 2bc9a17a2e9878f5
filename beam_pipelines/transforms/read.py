"""Splits -> their sources, each id once; and the word times that come with them."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam_pipelines.inputs import FORMATS, Source, SplitInput
from beam_pipelines.inputs.librispeech import read_word_times
from beam_pipelines.inputs.source import sound
from beam_pipelines.transforms import progress

WordTimes = tuple[str, tuple[str, tuple[tuple[str, float, float], ...]]]


@beam.typehints.with_input_types(SplitInput)
@beam.typehints.with_output_types(Source)
class ListSources(beam.PTransform):
    """Splits -> sources. Where an id comes twice in a split all but one are refused as "duplicate_id"."""

    def expand(self, splits):
        return (
            splits
            | "Parts" >> beam.FlatMap(_parts)
            # Listing a big corpus takes long: without this one worker would list all that one worker found.
            | "Spread" >> beam.Reshuffle()
            | "List" >> beam.FlatMap(_list).with_output_types(Source)
            | "ById" >> beam.Map(lambda source: ((source.split, source.utterance_id), source))
            | "SameId" >> beam.GroupByKey()
            | "FirstOfEachId" >> beam.FlatMapTuple(lambda _, same: first_of_each_id(same)).with_output_types(Source)
            | "Count" >> beam.Map(_expect).with_output_types(Source)
        )


@beam.typehints.with_input_types(SplitInput)
class ReadWordTimes(beam.PTransform):
    """Splits -> (split, (utterance id, ((word, start seconds, end seconds), ...))), where they have any."""

    def expand(self, splits):
        return splits | beam.FlatMap(lambda split: ((split.name, item) for item in read_word_times(split)))


def first_of_each_id(same: Iterable[Source]) -> Iterator[Source]:
    """Sources of one id in one split -> the same, all but one of the usable ones refused.

    One with audio goes before one without, then the path decides, then the place in its file.
    """
    taken = None
    for source in sorted(same, key=_preference):
        if source.reason:
            yield source
        elif taken is None:
            taken = source
            yield source
        else:
            where = taken.audio or taken.origin
            error = f"{source.utterance_id} is there already in split {source.split}: {where}"
            yield refuse(source, reason="duplicate_id", error=error)


def refuse(source: Source, *, reason: str, error: str) -> Source:
    """The same source, known to be unusable."""
    return dataclasses.replace(source, reason=reason, error=error)


def _preference(source: Source) -> tuple:
    return not source.audio, source.audio, source.order, source.offset or 0.0, source.origin, source.reason


def _parts(split: SplitInput) -> Iterator[tuple[SplitInput, bytes]]:
    # As bytes: names of folders may be no UTF-8, and Beam's coder of strings fails on them.
    for part in FORMATS[split.format].parts(split):
        yield split, part.encode(errors="surrogateescape")


def _list(part: tuple[SplitInput, bytes]) -> Iterator[Source]:
    split, name = part
    for source in FORMATS[split.format].sources(split, name.decode(errors="surrogateescape")):
        yield sound(source)


def _expect(source: Source) -> Source:
    progress.expect(1)
    return source
