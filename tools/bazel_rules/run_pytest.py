"""The main program of each test under Bazel: pytest on the files that are named, with what BUILD files declare."""

import os
import sys

import pytest


def main() -> int:
    # The environment's editable install would find in the checkout what a BUILD file has forgotten.
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable__")
    ]
    arguments = ["-p", "no:cacheprovider", "-c", "pyproject.toml", *sys.argv[1:]]
    if only := os.environ.get("TESTBRIDGE_TEST_ONLY"):  # bazel test --test_filter
        arguments += ["-k", only]
    if report := os.environ.get("XML_OUTPUT_FILE"):
        arguments.append(f"--junitxml={report}")
    return pytest.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
