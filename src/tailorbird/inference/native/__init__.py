"""Forward pass in one compiled call per step, where there is a C++ compiler and a processor with AVX2 or of 64-bit ARM.

In: weights, adapters, batches. Out: what ``forward/torch_forward.py`` computes, several times faster. Must not know: text, requests,
tenants.
"""
