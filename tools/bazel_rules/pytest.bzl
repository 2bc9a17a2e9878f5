"""Test files of a folder, each a target of its own."""

def pytest_tests(name, srcs, deps = [], helpers = [], helper_deps = [], data = []):
    """A py_test for each file, run by pytest, and `helpers`, a library of what they share.

    Args:
      name: of a test_suite of them all.
      srcs: the test files; a target has the file's name without `.py`.
      deps: what the tests import.
      helpers: conftest.py and the modules that tests import by name.
      helper_deps: what these import.
      data: files that they read.
    """
    native.py_library(
        name = "helpers",
        testonly = True,
        srcs = helpers,
        deps = helper_deps,
    )
    tests = [src[:-len(".py")] for src in srcs]
    for test in tests:
        native.py_test(
            name = test,
            size = "large",
            srcs = [test + ".py", "//tools/bazel_rules:run_pytest.py"],
            args = ["$(rootpath {}.py)".format(test)],
            data = ["//:pyproject.toml"] + data,
            main = "//tools/bazel_rules:run_pytest.py",
            deps = [":helpers"] + deps,
        )
    native.test_suite(
        name = name,
        tests = tests,
    )
