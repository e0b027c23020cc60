"""RapidOCR's networks run by OpenVINO, on any number of threads at once."""

import sys
import threading

import numpy as np

# OpenVINO prepares itself anew for each shape that it meets, 40 ms an image where every line has a width of its own:
# widths come in steps. Steps of 64 lost a tenth of the words.
WIDTH_STEP = 32


class OcrNetwork:
    """Stands in for RapidOCR's own session, which only one thread may use.

    `workers` calls run side by side, each on `threads` threads. Where the CPU multiplies in bfloat16, OpenVINO does
    unless `exact` (some three times faster than onnxruntime here; bench_ocr.py finds no words lost by it).
    """

    def __init__(self, model, workers: int, threads: int, exact: bool):
        openvino = import_openvino()
        self.compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "NUM_STREAMS": workers,
                "INFERENCE_NUM_THREADS": workers * threads,
                # Two processes would pin themselves to the same cores.
                "ENABLE_CPU_PINNING": False,
                **({"INFERENCE_PRECISION_HINT": "f32"} if exact else {}),
            },
        )
        self._thread = threading.local()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The output for `pixels`, float32 [pictures, 3, height, width]; valid until this thread's next call."""
        if not hasattr(self._thread, "request"):
            self._thread.request = self.compiled.create_infer_request()
        missing = -pixels.shape[-1] % WIDTH_STEP
        self._thread.request.infer([np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, missing)))])
        return self._thread.request.get_output_tensor().data


def import_openvino():
    """OpenVINO without its model converter, which reports every import to an analytics service on the internet."""
    sys.modules.setdefault("openvino.tools.ovc", None)  # importing it raises ImportError, which OpenVINO expects
    import openvino

    return openvino
