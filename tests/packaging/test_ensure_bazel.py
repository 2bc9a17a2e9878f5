"""tools/bazel_rules/ensure_bazel.sh with stubs on PATH: takes what is there, installs as root, else says how."""

import subprocess

import pytest


@pytest.fixture
def call(root, tmp_path):
    """Runs the script with these commands alone on PATH, {name: its shell}; returns (status, stdout, stderr)."""

    def run(*, user=1000, **commands):
        for name, shell in {"id": f"echo {user}", "env": '/usr/bin/env "$@"', **commands}.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!/bin/bash\n{shell}\n")
            path.chmod(0o755)
        script = root / "tools" / "bazel_rules" / "ensure_bazel.sh"
        command = ["/bin/bash", script]
        done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_bazel_on_path_is_taken(call):
    assert call(bazel="exit 0", apt_get="exit 1") == (0, "bazel\n", "")


def test_root_gets_debians(call, tmp_path):
    # The package lists are old: the first try fails, the second works after an update.
    install = (
        f'echo "$*" >>{tmp_path}/asked; [ "$1" = update ] && : >{tmp_path}/new; [ -e {tmp_path}/new ] || exit 1\n'
        f'[ "$1" = install ] && printf "#!/bin/bash\\n" >{tmp_path}/bazel && /bin/chmod +x {tmp_path}/bazel; exit 0'
    )
    code, out, errors = call(user=0, apt_get=install)
    assert (code, out) == (0, "bazel\n"), errors
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["install", "update", "install"]
    assert all("bazel-bootstrap" in line for line in asked[::2])


def test_others_are_told_how(call):
    code, out, errors = call(apt_get="exit 0")
    assert (code, out) == (1, "")
    assert "apt-get install bazel-bootstrap" in errors and "BAZEL=PATH" in errors


def test_a_failed_install_is_told(call):
    code, out, errors = call(user=0, apt_get="exit 1")
    assert (code, out) == (1, "")
    assert "apt-get could not install it" in errors
