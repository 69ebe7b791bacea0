"""A machine with GPUs, for tests on one without."""

import pytest
import tensorflow as tf


class Devices:
    """Stands in for `tf.config` on a machine with some GPUs; notes what is asked of it."""

    def __init__(self, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.visible = gpus
        self.growing: list[str] = []
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda gpu: {} if "0" in gpu else {"compute_capability": (7, 5)},
        )
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: self.visible)
        monkeypatch.setattr(tf.config, "set_visible_devices", self._set_visible)
        monkeypatch.setattr(
            tf.config.experimental, "set_memory_growth", lambda gpu, _: self.growing.append(gpu)
        )

    def _set_visible(self, devices: list[str], kind: str) -> None:
        assert kind == "GPU"
        self.visible = devices
