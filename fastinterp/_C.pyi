"""The C++ half; importing it registers the operators."""

cuda: bool
cuda_archs: tuple[str, ...]
simd_sets: tuple[str, ...]

def simd() -> str: ...
def set_simd(name: str) -> None: ...
