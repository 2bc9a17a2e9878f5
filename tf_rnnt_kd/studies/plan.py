"""A study as a graph of jobs: what to train, who teaches, where it is measured, what is claimed.

A study is a Python file with two functions: get_config(variant), as `tf_rnnt_kd.train --config=FILE:VARIANT` reads it,
and get_study(study), which tells a Study what there is:

    teacher = study.train("teacher", variant="teacher", data=[study.records("train-labeled")], seeds=1)
    labels = study.label(teacher, split="train-unlabeled", artifacts="hard,factored")
    hard = study.train("hard", variant="student_hard", data=[study.records("train-labeled"), labels])
    soft = study.train("soft", variant="student_soft", data=[study.records("train-labeled"), labels])
    study.claim("soft beats hard", better=soft, worse=hard)

Each job is a command of one of the project's binaries, and its output lies in a folder whose name ends in a digest of
all that determines it: the command, the resolved config, and through the names of its inputs theirs. So studies share
what they have in common, a changed setting makes new folders for what depends on it, and nothing is ever mixed up.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_rnnt_kd.splits import DEV, TEST, UNLABELLED
from tf_rnnt_kd.studies.corpora import Corpora
from tf_rnnt_kd.studies.definition import Definition, resolved
from tf_rnnt_kd.studies.jobs import Claim, Curve, Point, System, Undecided
from tf_rnnt_kd.studies.outcomes import Outcomes
from tf_rnnt_kd.studies.pooling import pooled_improvement
from tf_rnnt_kd.training.config import without_free_settings

_ALL_ARTIFACTS = "hard,nbest,collapsed,factored,hidden"


class Study(Corpora, Outcomes):
    """Collects what a definition declares.

    Args:
      definition: a Definition.
      workdir: for everything that is made; studies that share it share their common jobs.
      corpus, records, tokenizer, domains: see Corpora.
      seeds: of each system that does not say otherwise.
      dev: the split, or the part, on which weights and systems are chosen.
      miniature: with the definition's tiny models, and only some of what it would compare: the same code path in
        minutes.
      train_flags, label_flags: for all trainings and labellings; no digest depends on them.

    Attributes:
      jobs: see Graph. systems, results: see Outcomes. claims, curves: lists.
    """

    def __init__(
        self,
        definition: Definition,
        *,
        workdir: str,
        corpus: str | None = None,
        records: str | None = None,
        tokenizer: str | None = None,
        seeds: Sequence[int] = (1, 2, 3),
        dev: str = DEV,
        miniature: bool = False,
        domains: Mapping[str, str] | None = None,
        train_flags: Sequence[str] = (),
        label_flags: Sequence[str] = (),
    ):
        if miniature and not definition.miniature:
            raise ValueError(f"{definition.config} has no MINIATURE: leave --miniature out, or give it one")
        super().__init__(
            workdir, description=definition.corpus, corpus=corpus, records=records, tokenizer=tokenizer,
            domains=domains or {},
        )  # fmt: skip
        self.definition, self.seeds, self.dev, self.miniature = definition, tuple(seeds), dev, miniature
        self._changes = dict(definition.miniature) if miniature else {}
        self._train_flags, self._label_flags = tuple(train_flags), tuple(label_flags)
        self.systems: dict[str, System] = {}
        self.claims: list[Claim] = []
        self.curves: list[Curve] = []
        self.results: dict[tuple[str, str, int], str] = {}

    def declare(self) -> str | None:
        """Asks the definition; what stopped it where later jobs depend on results, else None."""
        try:
            self.definition.get_study(self)
        except Undecided as stop:
            return str(stop)
        return None

    def some(self, items: Iterable, count: int = 1) -> list:
        """All of them; in a miniature the first so many."""
        return list(items)[: count if self.miniature else None]

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant, in a miniature those of the miniature."""
        return resolved(self.definition.get_config, variant, self._changes)

    def train(
        self,
        name: str,
        *,
        variant: str,
        data: Sequence[str],
        seeds: Sequence[int] | int | None = None,
        note: str = "",
        warm_start: System | None = None,
        settings: Mapping[str, Any] | None = None,
        teaches: bool = False,
    ) -> System:
        """Declares a system: a training for each seed.

        Args:
          name: unique in the study.
          variant: of the file's get_config.
          data: of `records` and `label`.
          seeds: of its own; a number for the first so many.
          note: for the table.
          warm_start: from whose best weights it starts, each seed from those of its own, or of the first where there
            are none of its own.
          settings: {dotted name: value} beside the variant's, e.g. {"train.steps": 400}.
          teaches: leave it out of the table.
        """
        if name in self.systems:
            raise ValueError(f"the study {self.definition.name} declares two systems of the name {name!r}")
        seeds = self.seeds[:seeds] if isinstance(seeds, int) else self.seeds if seeds is None else tuple(seeds)
        settings = dict(settings or {}) | self._changes
        folders = {}
        for seed in seeds:
            chosen = {**settings, "seed": seed}
            if warm_start is not None:
                chosen["train.warm_start"] = warm_start.folders.get(seed, warm_start.folder)
            config = resolved(self.definition.get_config, variant, chosen)
            flags = [f"--config.{key}={value}" for key, value in chosen.items()]
            config_file = f"--config={self.definition.config}" + (f":{variant}" if variant else "")
            folders[seed] = self._add(
                "training",
                # Of miniatures many are the same training, whose name no other folder depends on.
                f"{'tiny' if self.miniature else variant or name}-{seed}",
                f"Train {name}, seed {seed}",
                digest_of=without_free_settings(config),
                size=config["train"]["steps"],
                config=config,
                arguments=(
                    "tf_rnnt_kd.train",
                    config_file,
                    "--workdir=OUTPUT",
                    f"--train={self.mixed(data)}",
                    f"--dev={self.records(self.dev)}",
                    f"--tokenizer={self._tokenizer}",
                    *flags,
                    *self._train_flags,
                ),
                not_in_digest=(config_file, *flags, *self._train_flags),
            )
        self.systems[name] = System(name, folders, note, teaches)
        return self.systems[name]

    def given(self, name: str, folder: str, *, note: str = "") -> System:
        """Declares a system that is trained already: its training's folder."""
        self.systems[name] = System(name, {0: folder.rstrip("/")}, note)
        return self.systems[name]

    def label(
        self,
        teacher: System,
        *,
        split: str = UNLABELLED,
        artifacts: str = "hard",
        targets: str = "hypothesis",
        flags: Sequence[str] = (),
        of: str | None = None,
    ) -> str:
        """Declares what a teacher writes about a split of the corpus or of other records: as `records` gives it.

        In a miniature all labellings without flags hold the same artifacts, and so are one.
        """
        artifacts = _ALL_ARTIFACTS if self.miniature and not flags else artifacts
        reference = (f"--tokenizer={self._tokenizer}",) if targets == "reference" else ()
        folder = self._add(
            "labelling",
            f"{split}-by-{teacher.name}",
            f"{teacher.name} labels {split} ({artifacts})",
            arguments=(
                "beam_pipelines.pseudo_label",
                f"--records={of or self._records}",
                f"--split={','.join(self.splits([split]))}",
                f"--teacher={self.export(teacher)}",
                "--output=OUTPUT",
                f"--artifacts={artifacts}",
                f"--targets={targets}",
                *reference,
                *flags,
                *self._label_flags,
            ),
            not_in_digest=self._label_flags,
        )
        return self.records(split, of=folder)

    def export(self, system: System) -> str:
        """Declares the SavedModel of a system's first seed: its folder."""
        return self._add(
            "export",
            Path(system.folder).name,
            f"Export {system.name}",
            arguments=("tf_rnnt_kd.export", f"--workdir={system.folder}", "--output=OUTPUT"),
        )

    def measure(
        self, split: str = TEST, *, systems: Sequence[System] = (), of: str | None = None, name: str = ""
    ) -> None:
        """Declares the word error rate of systems (all in the table if not given), for claims, curves and tables.

        Args:
          split: of the corpus. The table is sorted by the first one that is measured; of others it has a column.
          of: other records whose split it is. name: of these, in tables: it is measured where "NAME SPLIT" then.
        """
        for split_name in self.splits([split]):
            where = f"{name} {split_name}" if name else split_name
            for system in systems or [system for system in self.systems.values() if not system.teaches]:
                for seed, folder in system.folders.items():
                    output = self._add(
                        "evaluation",
                        f"{Path(folder).name}-on-{where}",
                        f"Measure {system.name}, seed {seed}, on {where}",
                        arguments=(
                            "tf_rnnt_kd.evaluate",
                            f"--workdir={folder}",
                            f"--records={of or self._records}",
                            f"--split={split_name}",
                            f"--name={Path(folder).name}",
                            "--json=OUTPUT/result.json",
                        ),
                    )
                    self.results[system.name, where, seed] = f"{output}/result.json"

    def claim(self, text: str, *, better: System, worse: System, where: str = "") -> None:
        """Declares what is expected, before it is measured."""
        self.claims.append(Claim(text, better.name, worse.name, where))

    def curve(
        self,
        title: str,
        *,
        x_label: str,
        lines: Mapping[str, Sequence[Point]],
        logarithmic: bool = False,
        steeper: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Declares a picture of lines, see Curve. Pairs of `steeper` that are not both there as lines are left out."""
        long = {name for name, points in lines.items() if len(points) > 1}
        steeper = [pair for pair in steeper if set(pair) <= long]
        self.curves.append(Curve(title, x_label, lines, logarithmic, steeper))

    def improvement(self, better: System, worse: System, *, split: str) -> float:
        """Paired probability that one makes fewer errors than the other, over the seeds of both.

        Raises:
          Undecided: one of them is not measured.
        """
        self.measure(split, systems=[better, worse])
        found = [self.measured(system, split) for system in (better, worse)]
        return pooled_improvement(*found)
