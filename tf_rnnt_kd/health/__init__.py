"""What `python -m tf_rnnt_kd.doctor` looks at, and what it finds."""

from tf_rnnt_kd.health.finding import ERROR, NOTE, OK, WARNING, Finding

__all__ = ["ERROR", "NOTE", "OK", "WARNING", "Finding"]
