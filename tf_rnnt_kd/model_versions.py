"""Folders of exported models in numbered versions, as TensorFlow Serving wants them: BASE/1, BASE/2, and so on.

A program that is given BASE takes the highest number; one that is given BASE/1 takes that. Folders may lie wherever
TensorFlow's file systems reach.
"""

import tensorflow as tf

_MODEL_FILE = "saved_model.pb"


def is_saved_model(folder) -> bool:
    """Whether the folder itself holds a SavedModel."""
    return tf.io.gfile.exists(f"{folder}/{_MODEL_FILE}")


def versions(base) -> list[int]:
    """Numbers of the folders in `base` that hold a SavedModel, ascending; none where there is no such folder.

    As TensorFlow Serving does it, what is not a whole number is passed over: an export that is being written has a
    name of another kind.
    """
    if not tf.io.gfile.isdir(str(base)):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(str(base))]
    return sorted(int(name) for name in names if _is_number(name) and is_saved_model(f"{base}/{name}"))


def version_folder(path) -> str:
    """The folder with the SavedModel: `path` itself, or the highest version in it.

    Where there is neither, `path` as it is, so that who reads it says what it wanted there.
    """
    path = str(path).rstrip("/")
    if is_saved_model(path):
        return path
    found = versions(path)
    return f"{path}/{found[-1]}" if found else path


def _is_number(name):
    # Not 007: the number alone must give back the name.
    return name.isascii() and name.isdecimal() and str(int(name)) == name
