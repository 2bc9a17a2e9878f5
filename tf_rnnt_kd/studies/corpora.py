"""What a study listens to: its corpus as records, its tokenizer, and audio of other places."""

from collections.abc import Mapping, Sequence

from tf_rnnt_kd.splits import LABELLED, SPLITS, TEST, UNLABELLED
from tf_rnnt_kd.studies.definition import Corpus
from tf_rnnt_kd.studies.graph import Graph


class Corpora(Graph):
    """Declares the jobs that make records.

    Args:
      workdir: for everything that is made.
      description: a Corpus.
      corpus: folder with its splits in LibriSpeech layout, or several with commas; or else
      records, tokenizer: folders of what was made of one.
      domains: {name: folder in LibriSpeech layout with the splits train and test} of other audio.
    """

    def __init__(
        self,
        workdir: str,
        *,
        description: Corpus,
        corpus: str | None,
        records: str | None,
        tokenizer: str | None,
        domains: Mapping[str, str],
    ):
        super().__init__(workdir)
        self._description, self._domains = description, dict(domains)
        self._corpus = corpus.split(",") if corpus else []
        self._records = records or self._prepare(
            self._corpus, name="records", splits=self.splits(SPLITS), flags=description.prepare
        )
        self._tokenizer = tokenizer or self._train_tokenizer()

    def splits(self, parts: Sequence[str]) -> list[str]:
        """The corpus' own splits that play these parts; what is no part stands for itself."""
        return [split for part in parts for split in self._description.splits.get(part, (part,))]

    def records(self, split: str, *, of: str | None = None) -> str:
        """DIR:split of the corpus or of other records; where a part has several splits, all of them with commas."""
        return ",".join(f"{of or self._records}:{name}" for name in self.splits([split]))

    def mixed(self, data: Sequence[str]) -> str:
        """Of `records` and others, for --train: with weights where the corpus asks for them."""
        sources, share = [source for part in data for source in part.split(",")], self._description.labelled_share
        hours, labelled = self._description.hours, self._description.splits.get(LABELLED, ())
        kinds: tuple[list[str], list[str]] = ([], [])
        for source in sources:
            kinds[source.rpartition(":")[2] in labelled].append(source)
        if share is None or not all(kinds):
            return ",".join(sources)
        weights: dict[str, float] = {}
        for part, kind in zip((1 - share, share), kinds, strict=True):
            sizes = {source: hours.get(source.rpartition(":")[2], 1.0) for source in kind}
            weights |= {source: part * size / sum(sizes.values()) for source, size in sizes.items()}
        return ",".join(f"{source}@{weights[source]:.4g}" for source in sources)

    def domain(self, name: str) -> str:
        """Declares the records of other audio (--domains), splits train and test: their folder."""
        return self._prepare([self._domains[name]], name=name, splits=())

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of what `domain` has."""
        return tuple(self._domains)

    def degraded(self, kind: str, *, parts: Sequence[str] = (UNLABELLED, TEST)) -> str:
        """Declares parts of the corpus as they sound in another place: the folder of their records.

        Args:
          kind: of tf_rnnt_kd.studies.degrade.

        Raises:
          ValueError: the study was given records, and not the audio that they were made of.
        """
        if not self._corpus:
            raise ValueError(f"{kind} audio is made of a corpus, and only its records were given")
        splits = self.splits(parts)
        inputs = [f"--input={folder}" for folder in self._corpus]
        audio = self._add(
            "corpus",
            kind,
            f"The corpus, {kind}",
            arguments=(
                "tf_rnnt_kd.studies.degrade",
                *inputs,
                "--output=OUTPUT",
                f"--kind={kind}",
                f"--splits={','.join(splits)}",
            ),
        )
        return self._prepare([audio], name=f"{kind}-records", splits=splits)

    def _prepare(self, folders, *, name, splits, flags=()) -> str:
        chosen = (f"--splits={','.join(splits)}",) if splits else ()
        inputs = [f"--input={folder}" for folder in folders]
        return self._add(
            "corpus",
            name,
            f"Audio files to {name}" if name == "records" else f"Audio files to records, {name}",
            arguments=("beam_pipelines.prepare_corpus", *inputs, "--output=OUTPUT", *chosen, *flags),
        )

    def _train_tokenizer(self) -> str:
        where = (f"--records={self._records}", f"--split={','.join(self.splits([LABELLED]))}")
        return self._add(
            "tokenizer",
            "tokenizer",
            "Train the tokenizer",
            arguments=("tf_rnnt_kd.train_tokenizer", *where, "--output=OUTPUT", *self._description.tokenizer),
        )
