"""What a study plans: jobs in order, folders by content."""

import pytest
from toy_study import Execution, toy_config

from tf_rnnt_kd.studies import Definition, Runner
from tf_rnnt_kd.studies.definition import resolved


def folders(study):
    """{job's title: the folder that it writes}."""
    found = {}
    for job in study.jobs.values():
        (flag,) = [x for x in job.arguments if job.key in x and x.startswith(("--output=", "--workdir=", "--json="))]
        found[job.title] = flag.partition("=")[2].removesuffix("/result.json")
    return found


def test_a_job_comes_after_those_that_make_what_it_reads(make, tmp_path):
    study = Runner(make, execute=Execution()).run()
    made = []
    for job in study.jobs.values():
        mentioned = {part for x in job.arguments for part in x.replace(",", "=").replace(":", "=").split("=")}
        needed = {x for x in mentioned if x.startswith(str(tmp_path)) and job.key not in x}
        assert needed <= set(made), job.title
        made.append(folders(study)[job.title])
    assert len(made) == len(set(made)) > 10


def test_the_plan_ends_where_results_decide(make):
    study = make()
    assert study.declare() == "which of few, many is best on dev"
    kinds = [job.kind for job in study.jobs.values()]
    assert kinds == ["corpus", "tokenizer", "training", "export", "labelling", *4 * ["training"]]
    assert [job.size for job in study.jobs.values() if job.kind == "training"] == [40, 20, 20, 25, 25]


def test_folders_depend_on_what_is_in_them_and_on_nothing_else(make, definition):
    def renamed(study):
        teacher = study.train("another name", variant="teacher", data=[study.records("train-labeled")], seeds=1)
        study.label(teacher, artifacts="hard,collapsed")

    study, other = make(), make(definition=definition._replace(name="b", config="b.py", get_study=renamed))
    study.declare(), other.declare()
    ours, theirs = folders(study), folders(other)
    assert theirs["Train another name, seed 1"] == ours["Train teacher, seed 1"]
    assert theirs["Export another name"] == ours["Export teacher"]
    moved = make(workdir="elsewhere")
    moved.declare()
    assert [x.rpartition("/")[2] for x in folders(moved).values()] == [x.rpartition("/")[2] for x in ours.values()]

    def longer(variant):
        config = toy_config(variant)
        config.train.steps += variant == "teacher"
        return config

    changed = make(definition=definition._replace(get_config=longer))
    changed.declare()
    same = {title for title, folder in folders(changed).items() if folder == ours.get(title)}
    assert same == {"Audio files to records", "Train the tokenizer"}


def test_commands_are_whole(make):
    study = make(miniature=True)
    study.declare()
    (job,) = [job for job in study.jobs.values() if job.title == "Train few, seed 2"]
    assert job.arguments[:2] == ("tf_rnnt_kd.train", "--config=toy.py:student")
    assert {"--config.train.steps=3", "--config.seed=2"} <= set(job.arguments), "the miniature has the last word"
    assert "Train many, seed 2" not in {job.title for job in study.jobs.values()}, "so small, the two are one"
    assert job.size == 3 and job.command.startswith("python -m tf_rnnt_kd.train --config=toy.py:student ")


def test_records_and_tokenizer_may_be_there_already(make):
    study = make(records="my/records", tokenizer="my/tokenizer")
    study.declare()
    assert {job.kind for job in study.jobs.values()} == {"training", "export", "labelling"}
    assert study.records("dev") == "my/records:dev"


def test_mistakes_are_named(make, tmp_path):
    study = make()
    study.train("a", variant="student", data=["x:y"])
    with pytest.raises(ValueError, match="two systems of the name 'a'"):
        study.train("a", variant="student", data=["x:y"])
    with pytest.raises(ValueError, match="student has no setting train.stops for 3"):
        study.train("b", variant="student", data=["x:y"], settings={"train.stops": 3})
    with pytest.raises(ValueError, match="no file .*none.py"):
        Definition.load(str(tmp_path / "none.py"))
    (tmp_path / "half.py").write_text("TITLE = 'half'\n")
    with pytest.raises(ValueError, match="half.py is no study, it lacks QUESTION, get_config"):
        Definition.load(str(tmp_path / "half.py"))
    assert resolved(toy_config, "other", {"losses.rnnt.weight": 0.5})["losses"]["rnnt"]["weight"] == 0.5
