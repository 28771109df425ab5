"""ONNX graphs to this engine's operations. Knows operators by their definitions; never which
program wrote a file."""
