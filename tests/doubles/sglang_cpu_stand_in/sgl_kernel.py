"""STAND-IN, for tests only: takes the place of SGLang's compiled kernels, of which PyPI has no build
for a CPU.

SGLang imports functions of ``sgl_kernel`` when it starts. On a CPU without these kernels it
computes a text model with PyTorch's own operators and calls none of them. Here each of them raises:
nothing is computed by this module, so nothing that is measured comes from it.
"""
