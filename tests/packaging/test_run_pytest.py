"""The main program of tests under Bazel: sees what is declared, filters and reports as Bazel asks it to."""

import os
import subprocess
import sys
import xml.etree.ElementTree

_TESTS = """
def test_declared():
    import tf_rnnt_kd.declared

def test_forgotten():
    import tf_rnnt_kd.splits
"""


def test_a_forgotten_dependency_is_an_import_error_and_bazels_variables_are_heard(root, tmp_path):
    # As a test's runfiles: the package with one module of those that the checkout has, or any other.
    package = tmp_path / "tf_rnnt_kd"
    package.mkdir()
    for name in ("__init__", "declared"):
        (package / f"{name}.py").write_text("")
    (tmp_path / "test_some.py").write_text(_TESTS)
    (tmp_path / "pyproject.toml").write_text("")
    assert (root / "tf_rnnt_kd" / "splits.py").exists()

    def run(**environment):
        program = root / "tools" / "bazel_rules" / "run_pytest.py"
        variables = {**os.environ, "PYTHONPATH": str(tmp_path), "XML_OUTPUT_FILE": str(tmp_path / "out.xml")}
        done = subprocess.run(
            [sys.executable, program, "test_some.py"], cwd=tmp_path, env={**variables, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        (suite,) = xml.etree.ElementTree.parse(tmp_path / "out.xml").getroot()
        return done.returncode, int(suite.get("tests")), done.stdout

    code, count, shown = run()
    assert (code, count) == (1, 2) and "1 passed" in shown
    assert "No module named 'tf_rnnt_kd.splits'" in shown
    assert run(TESTBRIDGE_TEST_ONLY="declared")[:2] == (0, 1)
