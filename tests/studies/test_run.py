"""Running a study: what is done is not done again, wherever it stopped."""

import pathlib
import threading
import time

import pytest
from toy_study import Execution, toy_config

from tf_rnnt_kd.studies import Runner, Undecided
from tf_rnnt_kd.studies.jobs import Job
from tf_rnnt_kd.studies.run import done, remaining


def test_stopped_anywhere_it_goes_on_from_there(make):
    names = []
    for count in (0, 3, 4, 6):
        execution = Execution(fail_at=count)
        with pytest.raises(KeyboardInterrupt):
            Runner(make, execute=execution).run()
        names += execution.names
    last = Execution()
    study = Runner(make, execute=last).run()
    names += last.names
    assert sorted(names) == sorted(study.jobs), "each job ran once"
    again = Execution()
    Runner(make, execute=again).run()
    assert again.names == []


class Together(Execution):
    """Each job waits until as many run, or for a moment where no other can; notes which ran at the same time."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lock, self.running, self.met = threading.Lock(), set(), set()

    def __call__(self, arguments, *, name):
        with self.lock:
            self.running.add(name)
        time.sleep(0.05)
        with self.lock:
            self.met |= {frozenset((name, other)) for other in self.running - {name}}
            seconds = super().__call__(arguments, name=name)
            self.running.remove(name)
        return seconds


def test_jobs_at_once_wait_for_what_they_need(make):
    execution = Together()
    study = Runner(make, execute=execution, at_once=3).run()
    assert sorted(execution.names) == sorted(study.jobs), "each job ran once"
    assert {len(names) for names in execution.met} == {2}, "none ran beside another"
    place = {name: index for index, name in enumerate(execution.names)}
    for name, job in study.jobs.items():
        for other in study.jobs.keys() - {name}:
            if any(other in argument for argument in job.arguments):
                assert place[other] < place[name] and frozenset((name, other)) not in execution.met


def test_what_runs_beside_a_failure_is_let_end(make):
    execution = Together(fail_at=4)
    with pytest.raises(KeyboardInterrupt):
        Runner(make, execute=execution, at_once=3).run()
    study = make()
    study.declare()
    assert len(execution.names) >= 4
    assert {key for key, job in study.jobs.items() if done(study.workdir, job)} == set(execution.names)


def test_the_best_on_dev_is_what_follows(make):
    study = Runner(make, execute=Execution()).run()
    # The later a toy training ran, the better it is.
    (job,) = [job for job in study.jobs.values() if job.title == "Train from the best, seed 1"]
    assert f"--config.train.warm_start={study.systems['many'].folder}" in job.arguments
    assert study.improvement(study.systems["from the best"], study.systems["many"], split="test") > 0.9


def test_a_study_that_never_decides_is_an_error(make, definition):
    def undecided(study):
        raise Undecided("what to do")

    with pytest.raises(ValueError, match="toy: all jobs are done, and it is still undecided what to do"):
        Runner(lambda: make(definition=definition._replace(get_study=undecided)), execute=Execution()).run()


def test_the_same_training_under_another_name_is_linked(make, definition, tmp_path):
    def one(study, name="one", variant="student"):
        system = study.train(name, variant=variant, data=[study.records("train-labeled")], seeds=1)
        study.claim("it is itself", better=system, worse=system)
        study.measure("test")

    def other(study):
        one(study, "other", "alias")

    both = definition._replace(get_config=lambda variant: toy_config("student"))
    Runner(lambda: make(definition=both._replace(get_study=one)), execute=Execution()).run()
    begun = tmp_path / "work" / "training"
    (first,) = begun.iterdir()
    (begun / first.name.replace("student", "alias")).mkdir()
    execution = Execution()
    study = Runner(lambda: make(definition=both._replace(get_study=other)), execute=execution).run()
    (folder,) = study.systems["other"].folders.values()
    assert pathlib.Path(folder).resolve() == first.resolve() and pathlib.Path(folder).name.startswith("alias-1-")
    assert [name for name in execution.names if "on-test" not in name] == []
    again = Execution()
    Runner(lambda: make(definition=both._replace(get_study=other)), execute=again).run()
    assert again.names == []


def test_the_time_left_is_that_of_jobs_of_the_same_kind():
    jobs = [Job("a", "", "training", (), 100), Job("b", "", "export", ())]
    finished = [{"kind": "training", "size": 10, "seconds": s} for s in (10.0, 20.0, 90.0)]
    assert remaining(jobs, finished=finished) is None
    finished.append({"kind": "export", "size": 1, "seconds": 7.0})
    assert remaining(jobs, finished=finished) == pytest.approx(100 * 2.0 + 7.0)
    assert remaining([], finished=[]) == 0
