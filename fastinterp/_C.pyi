"""The C++ half; importing it registers the operators."""

cuda: bool
cuda_archs: tuple[str, ...]
simd: str
