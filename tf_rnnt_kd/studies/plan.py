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

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_rnnt_kd.evaluation.results import Result
from tf_rnnt_kd.studies.definition import Definition, resolved
from tf_rnnt_kd.studies.jobs import Claim, Job, System, Undecided
from tf_rnnt_kd.studies.pooling import pooled_improvement

SPLITS = ("train-labeled", "train-unlabeled", "dev", "test")


class Study:
    """Collects what a definition declares.

    Args:
      definition: a Definition.
      workdir: for everything that is made; studies that share it share their common jobs.
      corpus: folder in LibriSpeech layout with the splits of SPLITS; or else
      records, tokenizer: folders of what was made of one.
      seeds: of each system that does not say otherwise.
      dev: the split on which weights and systems are chosen.
      miniature: with the definition's tiny models: the same code path in minutes.

    Attributes:
      jobs: by key, in an order in which they can run.
      systems: by name. claims: a list. results: {(system's name, split, seed): JSON file of its evaluation}.
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
        dev: str = "dev",
        miniature: bool = False,
    ):
        self.definition, self.workdir, self.seeds, self.dev = definition, workdir.rstrip("/"), tuple(seeds), dev
        self._miniature = dict(definition.miniature) if miniature else {}
        self.jobs: dict[str, Job] = {}
        self.systems: dict[str, System] = {}
        self.claims: list[Claim] = []
        self.results: dict[tuple[str, str, int], str] = {}
        self._records = records or self._prepare(corpus)
        self._tokenizer = tokenizer or self._train_tokenizer()

    def declare(self) -> str | None:
        """Asks the definition; what stopped it where later jobs depend on results, else None."""
        try:
            self.definition.get_study(self)
        except Undecided as stop:
            return str(stop)
        return None

    def records(self, split: str) -> str:
        """DIR:split of the corpus."""
        return f"{self._records}:{split}"

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
          warm_start: whose first seed's best weights it starts from.
          settings: {dotted name: value} beside the variant's, e.g. {"train.steps": 400}.
          teaches: leave it out of the table.
        """
        if name in self.systems:
            raise ValueError(f"the study {self.definition.name} declares two systems of the name {name!r}")
        seeds = self.seeds[:seeds] if isinstance(seeds, int) else self.seeds if seeds is None else tuple(seeds)
        settings = dict(settings or {}) | self._miniature
        if warm_start is not None:
            settings["train.warm_start"] = warm_start.folder
        folders = {}
        for seed in seeds:
            chosen = {**settings, "seed": seed}
            config = resolved(self.definition.get_config, variant, chosen)
            flags = [f"--config.{key}={value}" for key, value in chosen.items()]
            config_file = f"--config={self.definition.config}" + (f":{variant}" if variant else "")
            folders[seed] = self._add(
                "training",
                f"{variant or name}-{seed}",
                f"Train {name}, seed {seed}",
                digest_of=config,
                size=config["train"]["steps"],
                arguments=(
                    "tf_rnnt_kd.train",
                    config_file,
                    "--workdir=OUTPUT",
                    "--train=" + ",".join(data),
                    f"--dev={self.records(self.dev)}",
                    f"--tokenizer={self._tokenizer}",
                    *flags,
                ),
                not_in_digest=(config_file, *flags),
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
        split: str = "train-unlabeled",
        artifacts: str = "hard",
        targets: str = "hypothesis",
        flags: Sequence[str] = (),
    ) -> str:
        """Declares what a teacher writes about a split: DIR:split."""
        reference = (f"--tokenizer={self._tokenizer}",) if targets == "reference" else ()
        folder = self._add(
            "labelling",
            f"{split}-by-{teacher.name}",
            f"{teacher.name} labels {split} ({artifacts})",
            arguments=(
                "beam_pipelines.pseudo_label",
                f"--records={self._records}",
                f"--split={split}",
                f"--teacher={self.export(teacher)}",
                "--output=OUTPUT",
                f"--artifacts={artifacts}",
                f"--targets={targets}",
                *reference,
                *flags,
            ),
        )
        return f"{folder}:{split}"

    def export(self, system: System) -> str:
        """Declares the SavedModel of a system's first seed: its folder."""
        return self._add(
            "export",
            Path(system.folder).name,
            f"Export {system.name}",
            arguments=("tf_rnnt_kd.export", f"--workdir={system.folder}", "--output=OUTPUT"),
        )

    def measure(self, split: str = "test", *, systems: Sequence[System] = ()) -> None:
        """Declares the word error rate of the systems (all in the table if not given) on a split of the corpus."""
        for system in systems or [system for system in self.systems.values() if not system.teaches]:
            for seed, folder in system.folders.items():
                output = self._add(
                    "evaluation",
                    f"{Path(folder).name}-on-{split}",
                    f"Measure {system.name}, seed {seed}, on {split}",
                    arguments=(
                        "tf_rnnt_kd.evaluate",
                        f"--workdir={folder}",
                        f"--records={self._records}",
                        f"--split={split}",
                        f"--name={Path(folder).name}",
                        "--json=OUTPUT/result.json",
                    ),
                )
                self.results[system.name, split, seed] = f"{output}/result.json"

    def claim(self, text: str, *, better: System, worse: System) -> None:
        """Declares what is expected, before it is measured."""
        self.claims.append(Claim(text, better.name, worse.name))

    def improvement(self, better: System, worse: System, *, split: str) -> float:
        """Paired probability that one makes fewer errors than the other, over the seeds of both.

        Raises:
          Undecided: one of them is not measured.
        """
        self.measure(split, systems=[better, worse])
        found = [self.measured(system, split) for system in (better, worse)]
        return pooled_improvement(*found)

    def measured(self, system: System, split: str) -> list[Result]:
        """Of all its seeds.

        Raises:
          Undecided: not all of them are measured.
        """
        paths = [self.results[system.name, split, seed] for seed in system.folders]
        if not all(Path(path).exists() for path in paths):
            raise Undecided(f"the errors of {system.name} on {split}")
        return [Result.load(path) for path in paths]

    def best_on_dev(self, systems: Sequence[System]) -> System:
        """That of the lowest dev word error rate, averaged over its seeds.

        Raises:
          Undecided: not all of them are trained.
        """
        rates = {}
        for system in systems:
            found = [dev_wer(folder) for folder in system.folders.values()]
            if None in found:
                raise Undecided(f"which of {', '.join(s.name for s in systems)} is best on dev")
            rates[system.name] = sum(found) / len(found)
        return self.systems[min(rates, key=rates.__getitem__)]

    def _prepare(self, corpus) -> str:
        splits = ",".join(SPLITS)
        return self._add(
            "corpus",
            "records",
            "Audio files to records",
            arguments=("beam_pipelines.prepare_corpus", f"--input={corpus}", "--output=OUTPUT", f"--splits={splits}"),
        )

    def _train_tokenizer(self) -> str:
        where = (f"--records={self._records}", f"--split={SPLITS[0]}")
        return self._add(
            "tokenizer",
            "tokenizer",
            "Train the tokenizer",
            arguments=("tf_rnnt_kd.train_tokenizer", *where, "--output=OUTPUT"),
        )

    def _add(self, kind, name, title, *, arguments, size=1, digest_of=None, not_in_digest=()) -> str:
        """The job's folder. Jobs that are equal are one."""
        named = [argument for argument in arguments if argument not in not_in_digest]
        identity = json.dumps([kind, named, digest_of], sort_keys=True, default=str).replace(f"{self.workdir}/", "")
        # Folders stand in flags that commas and colons divide.
        name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        key = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
        folder = f"{self.workdir}/{kind}/{key}"
        arguments = tuple(argument.replace("OUTPUT", folder) for argument in arguments)
        self.jobs.setdefault(key, Job(key, title, kind, arguments, size))
        return folder


def dev_wer(folder: str) -> float | None:
    """Best dev word error rate of a finished training, else None."""
    done = Path(folder, "done.json")
    return json.loads(done.read_text())["best_dev_wer"] if done.exists() else None
