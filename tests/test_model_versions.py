"""Numbered versions as TensorFlow Serving counts them."""

import pytest

from tf_rnnt_kd.model_versions import version_folder, versions


def make(*folders):
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()


def test_the_highest_whole_number_with_a_model_in_it(tmp_path):
    make(*(tmp_path / name for name in ("2", "9", "10", "007", "-3", "1.5", "٣", "draft", ".11.incomplete")))
    (tmp_path / "12").mkdir()
    (tmp_path / "13").touch()
    assert versions(tmp_path) == [2, 9, 10]
    assert version_folder(tmp_path) == str(tmp_path / "10")
    assert version_folder(str(tmp_path) + "/") == str(tmp_path / "10")


def test_a_model_is_its_own_version(tmp_path):
    make(tmp_path / "model", tmp_path / "model" / "1")
    assert version_folder(tmp_path / "model") == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_what_holds_nothing_stays_as_it_is_for_its_reader_to_refuse(tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert versions(tmp_path / name) == []
    assert version_folder(tmp_path / name) == str(tmp_path / name)
