"""Studies: many trainings that answer one question, planned as a graph and run by one command, see `plan`."""

from tf_rnnt_kd import lazy

# So that programs of this package answer --help and mistakes at once.
_HOMES = {
    "Definition": "definition",
    "Point": "jobs",
    "Runner": "run",
    "Study": "plan",
    "System": "jobs",
    "Undecided": "jobs",
}
__all__ = list(_HOMES)  # noqa: PLE0604
__getattr__ = lazy.attributes(__name__, _HOMES)
