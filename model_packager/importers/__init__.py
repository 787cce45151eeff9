"""Importers: original models (.tflite, .onnx, PyTorch) to the typed graph."""
