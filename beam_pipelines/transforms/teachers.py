"""Several SavedModels as one teacher: routed by domain, and compared with each other.

Each model is loaded once per worker process: Beam's RunInference keeps what `load_model` gives for all threads.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler

from beam_pipelines.transforms.batch import Pending
from beam_pipelines.transforms.infer import Teacher, TeacherHandler, padded_batch
from beam_pipelines.transforms.labels import Inference, Labels
from beam_pipelines.transforms.routes import ANY_DOMAIN, Route
from beam_pipelines.transforms.scores import text_agreement


class LabelledBatch(NamedTuple):
    """A batch that the teachers were asked about; of each utterance the inference, and facts of the audio it had."""

    inferences: list[Inference]
    num_samples: list[int]
    audio_md5: list[str]


class Listener:
    """A teacher that only says what it hears, from its signature serving_default."""

    def __init__(self, saved_model: str, *, batch_size: int):
        self._loaded = tf.saved_model.load(saved_model)  # holds the variables that the signature uses
        self._recognise = self._loaded.signatures["serving_default"]
        self._batch_size = batch_size

    def texts(self, utterances: Sequence[Pending]) -> list[str]:
        """What is said in each of up to `batch_size` utterances."""
        heard = self._recognise(**padded_batch(utterances, batch_size=self._batch_size))["text"].numpy()
        return [text.decode() for text in heard[: len(utterances)]]


class Teachers:
    """Loaded teachers with the face of one.

    Args:
        routes: which teachers label which domain.
        teachers: {folder: Teacher} of those that label. listeners: {folder: Listener} of those that agree or not.
    """

    def __init__(
        self, routes: Sequence[Route], *, teachers: Mapping[str, Teacher], listeners: Mapping[str, Listener]
    ):
        self._routes = {route.domain: route for route in routes}
        self._teachers, self._listeners = dict(teachers), dict(listeners)

    def label(self, utterances: Sequence[Pending]) -> list[Labels]:
        """Labels of utterances of one domain, in order. Errors of TensorFlow pass through."""
        route = self._routes.get(ANY_DOMAIN) or self._routes[utterances[0].domain]
        labels = self._teachers[route.folder].label(utterances)
        if not route.others:
            return labels
        heard = zip(*(self._listeners[folder].texts(utterances) for folder in route.others), strict=True)
        return [
            one._replace(agreement=min(text_agreement(one.text, other=text) for text in texts))
            for one, texts in zip(labels, heard, strict=True)
        ]


class TeachersHandler(ModelHandler[Pending, LabelledBatch, Teachers]):
    """Beam's way to `Teachers`. Gives one `LabelledBatch` for each batch, so that a batch can be stored as a whole.

    Args:
        routes: which teachers label which domain.
        batch_size: the most rows that a model sees at once.
        settings: of each `Teacher`.
    """

    def __init__(self, routes: Sequence[Route], *, batch_size: int, **settings: Any):
        super().__init__()
        self._routes, self._batch_size, self._settings = tuple(routes), batch_size, settings
        # It tries a batch that fails again, one by one.
        self._handler = TeacherHandler(routes[0].folder, batch_size=batch_size, **settings)

    def load_model(self) -> Teachers:
        teachers = dict.fromkeys(route.folder for route in self._routes)
        listeners = dict.fromkeys(folder for route in self._routes for folder in route.others)
        return Teachers(
            self._routes,
            teachers={folder: Teacher(folder, batch_size=self._batch_size, **self._settings) for folder in teachers},
            listeners={folder: Listener(folder, batch_size=self._batch_size) for folder in listeners},
        )

    def run_inference(
        self, batch: Sequence[Pending], model: Teachers, inference_args: dict[str, Any] | None = None
    ) -> list[LabelledBatch]:
        return [
            LabelledBatch(
                self._handler.run_inference(batch, model, inference_args),
                num_samples=[len(utterance.waveform) for utterance in batch],
                audio_md5=[
                    hashlib.md5(np.ascontiguousarray(utterance.waveform).data).hexdigest() for utterance in batch
                ],
            )
        ]

    def get_num_bytes(self, batch: Sequence[Pending]) -> int:
        return self._handler.get_num_bytes(batch)

    def get_metrics_namespace(self) -> str:
        return self._handler.get_metrics_namespace()
