"""Forward pass in one compiled call per step, where the processor multiplies bf16 (AVX512-BF16) and there is a C++ compiler.

In: weights, adapters, batches. Out: what ``forward/torch_forward.py`` computes, several times faster. Must not know: text, requests,
tenants.
"""
