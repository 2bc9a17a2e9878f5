"""A server for development and tests over one exported model: what TensorFlow Serving speaks, and a page to try it on.

    python -m tf_rnnt_kd.serving.server --model=exported/student

gRPC (PredictionService, ModelService) and REST of TensorFlow Serving; sessions on a WebSocket, whose states the server
keeps, for the page; health and Prometheus metrics. `app.Server` over a `model.ServedModel` is the whole of it;
docs/serving/server.md is its book.
"""
