"""Studies: many trainings that answer one question, planned as a graph and run by one command, see `plan`."""

from tf_rnnt_kd.studies.definition import Definition
from tf_rnnt_kd.studies.jobs import System, Undecided
from tf_rnnt_kd.studies.plan import Study
from tf_rnnt_kd.studies.run import Runner

__all__ = ["Definition", "Runner", "Study", "System", "Undecided"]
