"""RemoteMonitor: sends the values of every epoch to a web server."""

from __future__ import annotations

import json
import warnings

import numpy as np

from kcompile.keras.callbacks.callback import Callback

TIMEOUT_S = 10


class RemoteMonitor(Callback):
    """POST the values of every epoch to `root + path`.

    Args:
        root: of the server. path: below it.
        field: of the form that carries the values as JSON.
        headers: further HTTP headers.
        send_as_json: send the values as an application/json body instead of a form.

    A server that cannot be reached costs a warning, not the training.
    """

    def __init__(
        self,
        root="http://localhost:9000",
        path="/publish/epoch/end/",
        field="data",
        headers=None,
        send_as_json=False,
    ):
        super().__init__()
        self.root = root
        self.path = path
        self.field = field
        self.headers = headers
        self.send_as_json = send_as_json

    def on_epoch_end(self, epoch, logs=None):
        import urllib.error  # these bring the network and ssl
        import urllib.parse
        import urllib.request

        values = {name: _plain(value) for name, value in (logs or {}).items()}
        text = json.dumps({"epoch": epoch, **values})
        if self.send_as_json:
            kind, body = "application/json", text
        else:
            kind, body = "application/x-www-form-urlencoded", urllib.parse.urlencode({self.field: text})
        headers = {"Content-Type": kind, **(self.headers or {})}
        request = urllib.request.Request(self.root + self.path, data=body.encode(), headers=headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except urllib.error.HTTPError:
            return  # it was reached; what it thinks of the values is its own matter
        except OSError:
            warnings.warn(f"Could not reach RemoteMonitor root server at {self.root}", stacklevel=2)


def _plain(value):
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
